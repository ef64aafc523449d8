"""Normalisations."""

import torch

import lincoln_fn as lf
from helpers.submissions.submission import Submission, layer, normal, trained

X = normal(5, 3)
P = (normal(3, seed=1), normal(3, seed=2))


def batch_norm(params, x):
    w, b = params
    mean = x.mean(0)
    var = ((x - mean) ** 2).mean(0)
    std = torch.sqrt(var + 1e-5)
    x_hat = (x - mean) / std
    return x_hat * w + b, (x_hat, std)


def grads(cache, g):
    return (g * cache[0]).sum(0), g.sum(0)


def wrong(what, dx, says, dparams=grads):
    def backward(params, cache, g):
        return dx(*cache, g * params[0], g), dparams(cache, g)

    return Submission("batch norm", what, trained(batch_norm, backward), X, says, P)


def right(x_hat, std, d, g):
    return (d - d.mean(0) - x_hat * (d * x_hat).mean(0)) / std


def of(net, dx, x, family, what, says):
    """Give a normalisation of the library another dx, from d x_hat, x_hat and rstd."""

    def backward(params, cache, g):
        weight = getattr(params, "weight", None)
        d = (
            g
            if weight is None
            else g
            * (weight.reshape(-1, *(1,) * (g.ndim - 2)) if family == "batch norm" else weight)
        )
        return dx(d, cache.x_hat, cache.rstd), net.backward(params, cache, g)[1]

    return Submission(family, what, net.replace(backward=backward), x, says)


def rms(x):
    r = torch.rsqrt((x**2).mean(-1, keepdim=True) + 1e-6)
    return x * r, (x, r)


LAYER, BATCH = lf.layer_norm(), lf.batch_norm()
IMAGES = normal(2, 3, 4, 5, seed=3)

WRONG = [
    wrong("mean and variance constant", lambda x_hat, std, d, g: d / std,
        r"misses the paths through mean\(\) \(in `x\.mean"),
    wrong("1/N of the means missing",
        lambda x_hat, std, d, g: (d - d.sum(0) - x_hat * (d * x_hat).sum(0)) / std,
            r"counts the paths through mean\(\) \(in"),
    wrong("1/std missing", lambda x_hat, std, d, g: right(x_hat, 1.0, d, g),
        r"has the further factor std in the path"),
    wrong("w missing in dx", lambda x_hat, std, d, g: right(x_hat, std, g, g), "factor"),
    wrong("sign of the second mean",
        lambda x_hat, std, d, g: (d - d.mean(0) + x_hat * (d * x_hat).mean(0)) / std, "sign"),
    wrong("mean over the features", lambda x_hat, std, d, g: (
            (d - d.mean(1, keepdim=True) - x_hat * (d * x_hat).mean(1, keepdim=True)) / std),
        r"is wrong in 15 of 15 places"),
    wrong("dw without x_hat", right,
        r"lacks the other factor of mul\(\) \(in `x_hat", lambda c, g: (g.sum(0), g.sum(0))),
    wrong("dw averaged", right, "5 times too small", lambda c, g: ((g * c[0]).mean(0), g.sum(0))),
    wrong("db over the wrong axis", right, r"it should be sum\(g, 0\)",
        lambda c, g: ((g * c[0]).sum(0), g.sum(1))),
    of(LAYER, lambda d, x, r: r * d, X, "layer norm", "mean and variance constant",
        "is d r, not its gradient"),
    of(LAYER, lambda d, x, r: r * (d - d.mean(-1, keepdim=True)), X, "layer norm",
        "variance constant", r"misses the path through mean\(\), as if it were"),
    of(LAYER, lambda d, x, r: r * (d - d.mean(0) - x * (d * x).mean(0)), X, "layer norm",
        "mean over the batch", r"is wrong in 15 of 15 places"),
    of(LAYER, lambda d, x, r: d - d.mean(-1, keepdim=True) - x * (d * x).mean(-1, keepdim=True), X,
        "layer norm", "1/std missing", "factor"),
    of(BATCH, lambda d, x, r: r * d, IMAGES, "batch norm", "of images: mean and variance constant",
        "is d r, not its gradient"),
    Submission("rms norm", "mean square constant", layer(rms, lambda c, g: g * c[1]), X,
        r"misses the path through mean\(\) \(in"),
    Submission("rms norm", "1/N missing",
        layer(rms, lambda c, g: c[1] * g - c[0] * c[1] ** 3 * (g * c[0]).sum(-1, keepdim=True)), X,
        r"counts the path through mean\(\) \(in `\(x\*\*2\)\.mean"),
    Submission("rms norm", "power of r wrong",
        layer(rms, lambda c, g: c[1] * g - c[0] * c[1] ** 2 * (g * c[0]).mean(-1, keepdim=True)), X,
        "lacks the factor cached in the path through"),
    Submission("l2 normalise", "norm constant", layer(
            lambda x: (x / x.norm(dim=1, keepdim=True), x),
            lambda x, g: g / x.norm(dim=1, keepdim=True)), X, "norm"),
    Submission("centring", "mean constant", layer(lambda x: (x - x.mean(0), None), lambda c, g: g),
        X, r"misses the path through mean\(\) \(in"),
]  # fmt: skip
RIGHT = [
    Submission("batch norm", "by its graph, step by step",
        trained(batch_norm, lambda p, c, g: (right(*c, g * p[0], g), grads(c, g))), X, "", P),
    Submission("layer norm", "by the Jacobian",
        layer(lambda x: ((y := (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)),
                (y, x.std(-1, keepdim=True))), lambda c, g: (
                (g - g.mean(-1, keepdim=True) - c[0] * (g * c[0]).sum(-1, keepdim=True) / 2) / c[1]
            )), X),
]  # fmt: skip
