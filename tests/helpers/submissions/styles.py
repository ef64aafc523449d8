"""Submissions in other styles: loops, numpy, torch's functions with a backward by hand."""

import torch
from torch.nn import functional

import lincoln_fn as lf
from helpers.submissions.submission import Submission, layer, normal, trained

X = normal(6, 4)
IMAGE = normal(2, 3, 4, 6)


def pooled(backward):
    def forward(x):
        y, _ = functional.max_pool2d(x, 2, return_indices=True)
        return y, (x, wide(y))

    return layer(forward, lambda cache, g: backward(wide(g), *cache))


def wide(y):
    return y.repeat_interleave(2, 2).repeat_interleave(2, 3)


def heads(mistake):
    """Values in two heads: the axes are exchanged, and back."""

    def forward(params, x):
        n, steps, _ = x.shape
        v = (x @ params[0]).reshape(n, steps, 2, -1).transpose(1, 2)
        y = torch.tanh(v).transpose(1, 2).reshape(n, steps, -1)
        return y @ params[1], (x, y)

    def backward(params, cache, g):
        x, y = cache
        dv = (g @ params[1].mT) * (1 - y**2)
        if mistake:
            dv = dv.reshape(2, 5, 2, -1).transpose(1, 2).reshape(dv.shape)
        dws = (torch.einsum("nti,ntj->ij", a, d) for a, d in ((x, dv), (y, g)))
        return dv @ params[0].mT, (*dws,)

    return trained(forward, backward)


def two_layers(mistake):
    def forward(params, x):
        h = torch.relu(x @ params[0])
        return h @ params[1], (x, h)

    def backward(params, cache, g):
        x, h = cache
        dz = (g @ params[1].mT) * (h > 0)
        z = x @ params[0]
        dv = (z if mistake == "z" else h).mT @ g
        rows = slice(0, -1) if mistake == "short loop" else slice(None)
        return dz @ params[0].mT, (x[rows].mT @ dz[rows], dv)

    return trained(forward, backward)


def elu(negative):
    return layer(
        lambda x: (torch.where(x > 0, x, torch.exp(x) - 1), x),
        lambda x, g: torch.where(x > 0, g, g * negative(x)),
    )


def huber(slope):
    def forward(x, t):
        r = x - t
        return torch.where(r.abs() < 1, r**2 / 2, r.abs() - 0.5).sum(), r

    return lf.Loss("mine()", forward, lambda r, g=1.0: g * slope(r))


def bernoulli(dp):
    def forward(p, t):
        return -(t * torch.log(p) + (1 - t) * torch.log(1 - p)).mean(), (p, t)

    return lf.Loss("mine()", forward, lambda c, g=1.0: g * dp(*c) / c[0].numel())


MLP = (normal(4, 5, seed=3), normal(5, 3, seed=4))
TWO_HEADS = (normal(4, 6, seed=3), normal(6, 3, seed=4))
P, T = torch.sigmoid(X), (normal(6, 4, seed=5) > 0).double()
WRONG = [
    Submission("pooling", "by indices: further factor x", pooled(lambda g, x, y: g * x * (x == y)),
        IMAGE, "further factor x"),
    Submission("heads", "axes exchanged once too often", heads("exchanged"), normal(2, 5, 4),
        r"dv, the gradient of `x @ params\[0\]`, has the", params=TWO_HEADS),
    Submission("two layers", "dv by z, not by relu(z)", two_layers("z"), X,
        "z, forward's h, is another value", params=MLP),
    Submission("two layers", "the last row left out", two_layers("short loop"), X,
        "is wrong in 12 of 20 places", params=MLP),
    Submission("activation", "elu: y for y + 1", elu(lambda x: torch.exp(x) - 1), X,
        r"what it returns, forward's `torch\.exp\(x\)`, is"),
    Submission("huber loss", "the square everywhere", huber(lambda r: r), 2 * X,
        r"has the further factor `r\.abs\(\)` in the path", target=normal(6, 4, seed=6)),
    Submission("huber loss", "branches exchanged",
        huber(lambda r: torch.where(r.abs() < 1, r.sign(), r)), 2 * X,
        r"lacks the factor `r\.abs\(\)` in the path through pow", target=normal(6, 4, seed=6)),
    Submission("logistic loss", "by the score, not by p", bernoulli(lambda p, t: p - t), P,
        "is 1/24 p - 1/24 t, not its gradient", target=T),
]  # fmt: skip
RIGHT = [
    Submission("pooling", "by indices", pooled(lambda g, x, y: g * (x == y)), IMAGE),
    Submission("heads", "by hand", heads(""), normal(2, 5, 4), params=TWO_HEADS),
    Submission("two layers", "by hand", two_layers(""), X, params=MLP),
    Submission("activation", "elu", elu(torch.exp), X),
    Submission("huber loss", "with a clamp", huber(lambda r: r.clamp(-1, 1)), 2 * X,
               target=normal(6, 4, seed=6)),
    Submission("logistic loss", "one quotient", bernoulli(lambda p, t: (p - t) / (p * (1 - p))), P,
               target=T),
]  # fmt: skip
