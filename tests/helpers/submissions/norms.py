"""Normalisations."""

import torch

import lincoln_fn as lf
from helpers.submissions.submission import Code, Submission, layer, normal, trained

X = normal(5, 3)


def batch_norm(x, w, b):
    mean = x.mean(0)
    var = ((x - mean) ** 2).mean(0)
    std = torch.sqrt(var + 1e-5)
    x_hat = (x - mean) / std
    return x_hat * w + b, (x_hat, std, w)


def batch_norm_backward(g, cache):
    x_hat, std, w = cache
    d = g * w
    dx = (d - d.mean(0) - x_hat * (d * x_hat).mean(0)) / std
    return dx, (g * x_hat).sum(0), g.sum(0)


def rms_norm(x):
    r = torch.rsqrt((x**2).mean(-1, keepdim=True) + 1e-6)
    return x * r, (x, r)


def rms_norm_backward(g, cache):
    x, r = cache
    return r * g - x * r**3 * (g * x).mean(-1, keepdim=True)


BATCH = Code("batch norm", batch_norm, batch_norm_backward,
    (X, normal(3, seed=1), normal(3, seed=2)), np=torch)  # fmt: skip
RMS = Code("rms norm", rms_norm, rms_norm_backward, (X,), np=torch)
VARIANCE = " - x_hat * (d * x_hat).mean(0)"


def of_rows(what, dx, says):
    """Give the library's layer norm another dx, from x_hat, rstd and g."""

    def backward(params, cache, g):
        return dx(cache.x_hat, cache.rstd, g), params

    made = lf.layer_norm(elementwise_affine=False).replace(backward=backward)
    return Submission("layer norm", what, made, X, says)


WRONG = [
    BATCH.submission("mean and variance constant", r"misses the paths through mean\(\)",
        {f" - d.mean(0){VARIANCE}": ""}),
    BATCH.submission("1/N of the means missing", r"counts the paths through mean\(\) \(in",
        {"d.mean(0)": "d.sum(0)", "x_hat).mean(0)": "x_hat).sum(0)"}),
    BATCH.submission("1/std missing", r"has the further factor std in the path", {" / std": ""}),
    BATCH.submission("w missing in dx", "factor", {"d = g * w": "d = g"}),
    BATCH.submission("sign of the second mean", "sign", {"- x_hat": "+ x_hat"}),
    BATCH.submission("dw without x_hat", r"lacks the other factor of mul\(\) \(in `x_hat",
        {"g * x_hat": "g"}),
    BATCH.submission("dw averaged", "5 times too small", {"(g * x_hat).sum": "(g * x_hat).mean"}),
    BATCH.submission("db over the wrong axis", r"it should be sum\(g, 0\)",
        {", g.sum(0)": ", g.sum(1)"}),
    of_rows("mean and variance constant", lambda x, r, g: r * g, "is g r, not its gradient"),
    of_rows("variance constant", lambda x, r, g: r * (g - g.mean(-1, keepdim=True)),
        r"misses the path through mean\(\), as if it were"),
    of_rows("mean over the batch", lambda x, r, g: r * (g - g.mean(0) - x * (g * x).mean(0)),
        r"is wrong in 15 of 15 places"),
    RMS.submission("mean square constant", r"misses the path through mean\(\) \(in",
        {" - x * r**3 * (g * x).mean(-1, keepdim=True)": ""}),
    RMS.submission("1/N missing", r"counts the path through mean\(\) \(in `\(x\*\*2\)\.mean",
        {"mean": "sum"}),
    RMS.submission("power of r wrong", "lacks the factor", {"r**3": "r**2"}),
    Submission("l2 normalise", "norm constant", layer(
            lambda x: (x / x.norm(dim=1, keepdim=True), x),
            lambda x, g: g / x.norm(dim=1, keepdim=True)), X, "norm"),
    Submission("x / |x|", "the norm's factor missing", layer(
            lambda x: (x / x.norm(dim=1, keepdim=True), x),
            lambda x, g: g - x * (g * x).sum(1, keepdim=True) / x.square().sum(1, keepdim=True)),
        X, r"has the further factor `x\.norm\(dim=1"),
    Submission("centring", "mean constant", layer(lambda x: (x - x.mean(0), None), lambda c, g: g),
        X, r"misses the path through mean\(\) \(in"),
    Submission("weight norm", "norm constant", trained(lambda w, x: (x @ (w / w.norm(dim=0)), x),
            lambda w, x, g: (g @ (w / w.norm(dim=0)).mT, x.mT @ g / w.norm(dim=0))), X,
        r"path through norm\(\)", normal(3, 3, seed=12)),
]  # fmt: skip
RIGHT = [
    BATCH.submission("by its graph, step by step"),
    RMS.submission("by hand"),
    Submission("layer norm", "by the Jacobian",
        layer(lambda x: ((y := (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)),
                (y, x.std(-1, keepdim=True))), lambda c, g: (
                (g - g.mean(-1, keepdim=True) - c[0] * (g * c[0]).sum(-1, keepdim=True) / 2) / c[1]
            )), X),
]  # fmt: skip
