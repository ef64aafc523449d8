"""Softmax, log-softmax and dropout."""

import torch

import lincoln_fn as lf
from helpers.submissions.submission import Submission, layer, normal, of
from helpers.submissions.submission import activation as wrong

X = normal(5, 3)


def dropped(dx):
    def backward(params, cache, g):
        return dx(cache.mask, cache.scale, g), params

    return lf.dropout(0.4).replace(backward=backward)


def softmax(x):
    e = torch.exp(x - x.max(-1, keepdim=True).values)
    p = e / e.sum(-1, keepdim=True)
    return p, p


def loop(cache, g):
    dx = torch.zeros_like(g)
    for i in range(len(g)):
        jacobian = torch.diag(cache[i]) - torch.outer(cache[i], cache[i])
        dx[i] = jacobian @ g[i]
    return dx


WRONG = [
    wrong("softmax: diagonal alone", of(lf.softmax(), lambda c, g: g * c.y * (1 - c.y)),
        r"has y \(1 - y\) in place of the derivative of"),
    wrong("softmax written out: diagonal alone", layer(softmax, lambda p, g: g * p * (1 - p)),
        r"is its gradient \+ cache sum\(g cache, 1\) - g"),
    wrong("softmax: sum over the examples",
        of(lf.softmax(), lambda c, g: c.y * (g - (g * c.y).sum(0, keepdim=True))),
            r"is its gradient - y sum\(g y, 0\) \+ y sum\(g y"),
    wrong("softmax: g forgotten", layer(softmax, lambda p, g: p * (1 - p)), "g"),
    wrong("log-softmax: g not summed", of(lf.log_softmax(), lambda c, g: g - torch.exp(c.y) * g),
        "sum"),
    wrong("dropout: 1/keep missing", dropped(lambda m, s, g: g * m),
        r"is 1\.66667 times too small"),
    wrong("dropout: mask missing", dropped(lambda m, s, g: g * s),
        r"lacks the other factor of mul\(\)"),
    wrong("dropout: mask inverted", dropped(lambda m, s, g: g * ~m * s), "mask inverted"),
]  # fmt: skip
RIGHT = [Submission("activation", "softmax by Jacobians, in a loop", layer(softmax, loop), X)]
