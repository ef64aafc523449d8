"""Further activations, shapes and losses."""

import torch
from torch.nn import functional

import lincoln_fn as lf
from helpers.submissions.submission import Submission, layer, normal, trained

X, T = normal(6, 4), normal(6, 4, seed=1)

SEQUENCE = normal(2, 4, 4, seed=5)


def one(what, made, says, x=X, params=None, family="other"):
    return Submission(family, what, made, x, says, params)


def loss(what, forward, backward, says, x=X, target=T):
    made = lf.Loss("mine()", forward, lambda cache, g=1.0: backward(*cache, g))
    return Submission("other loss", what, made, x, says, target=target)


def entropy(p, t):
    return -(t * torch.log(p) + (1 - t) * torch.log(1 - p)).mean(), (p, t)


def prelu(a, x):
    return torch.where(x > 0, x, a * x), x


def weight_norm(w, x):
    return x @ (w / w.norm(dim=0)), x


P, Q = torch.sigmoid(X), torch.sigmoid(3 * T)

A = torch.tensor(0.25)

WRONG = [
    one("hardtanh: mask missing", lf.hardtanh().replace(backward=lambda p, c, g: (g, ())),
        r"lacks the derivative of clamp\(\)"),
    one("gelu: by the logistic approximation",
        lf.gelu().replace(backward=lambda p, c, g: (g * torch.sigmoid(1.702 * c.x), ())),
        "wrong in"),
    one("elu: derivative at x for y",
        layer(lambda x: (functional.elu(x), x), lambda x, g: g * torch.where(x > 0, 1, x + 1)),
        r"is its gradient \+ g cache - g y"),
    one("softplus: 1/(1 + e^x) missing",
        layer(lambda x: (functional.softplus(x), x), lambda x, g: g * torch.exp(x)),
        r"is wrong in 24 of 24 places"),
    one("max pooling: the last in place of the largest", lf.max_pool1d(2).replace(
            backward=lambda p, c, g: (torch.stack([0 * g, g], -1).flatten(-2), ())), "wrong places",
        normal(2, 3, 6)),
    one("mean over time: divided by the batch",
        layer(lambda x: (x.mean(1), x), lambda x, g: (g[:, None] / len(x)).expand_as(x)),
        "2 times too large", SEQUENCE),
    one("bilinear: inputs exchanged", trained(
            lambda w, x: (torch.einsum("bi,oij,bj->bo", x[0], w, x[1]), x), lambda w, x, g: ((
                    torch.einsum("bo,oij,bi->bj", g, w, x[0]),
                    torch.einsum("bo,oij,bj->bi", g, w, x[1])),
                torch.einsum("bo,bi,bj->oij", g, *x))), "are swapped", (X, T),
        normal(3, 4, 4, seed=11)),
    one("weight norm: norm constant", trained(weight_norm,
            lambda w, x, g: (g @ (w / w.norm(dim=0)).mT, x.mT @ g / w.norm(dim=0))),
        r"path through norm\(\)", X, normal(4, 3, seed=12)),
    loss("binary cross-entropy: sign of the second term", entropy,
        lambda p, t, g: -g * (t / p + (1 - t) / (1 - p)) / 24, r"sign .*sub\(\)", P, Q),
    loss("kl divergence: not averaged", lambda z, t: ((t * (t.log() - z)).sum(1).mean(), (z, t)),
        lambda z, t, g: -g * t, "6 times too large", X, torch.softmax(T, 1)),
]  # fmt: skip
RIGHT = [
    one("prelu",
        trained(prelu, lambda a, x, g: (torch.where(x > 0, g, a * g), (g * x * (x <= 0)).sum())),
        "", X, A),
]  # fmt: skip
