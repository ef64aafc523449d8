"""Convolutions."""

import attrs
import torch
from torch.nn import functional

import lincoln_fn as lf
from helpers.submissions.submission import Submission, normal, trained

X = normal(2, 3, 5, 6)

CONV = lf.conv2d(4, 3, padding=1)

PLAIN = lf.conv2d(4, 3)

SEQUENCE = normal(2, 3, 7, seed=1)


def wrong(what, dx=None, dw=None, db=None, says="", net=CONV, x=X):
    """Give a convolution of the library wrong gradients, made of the right ones."""

    def backward(params, cache, g):
        right_dx, d = net.backward(params, cache, g)
        weight = dw(params, cache, g, d.weight) if dw else d.weight
        bias = db(params, cache, g, d.bias) if db else d.bias
        new = dx(params, cache, g, right_dx) if dx else right_dx
        return new, attrs.evolve(d, weight=weight, bias=bias)

    return Submission("convolution", what, net.replace(backward=backward), x, says)


def unflipped(params, cache, g, dx):
    return functional.conv2d(g, params.weight.transpose(0, 1), padding=1)


def cut(start):
    def dx(params, cache, g, right):
        wide = functional.conv_transpose2d(g, params.weight)
        return wide[..., start : start + 5, start : start + 6]

    return dx


def conv1d(params, x):
    w, b = params
    windows = x.unfold(2, 3, 1)
    return torch.einsum("bilk,oik->bol", windows, w) + b[:, None], windows


def conv1d_backward(dx_of, dw_of=None):
    def backward(params, windows, g):
        w, _ = params
        dw = torch.einsum("bol,bilk->oik", g, windows)
        dx = torch.zeros(*windows.shape[:2], windows.shape[2] + 2, dtype=g.dtype)
        dx_of(dx, torch.einsum("bol,oik->bilk", g, w))
        return dx, (dw if dw_of is None else dw_of(dw), g.sum((0, 2)))

    return backward


def spread(dx, d):
    for k in range(3):
        dx[:, :, k : k + d.shape[2]] += d[..., k]


def overwritten(dx, d):
    for k in range(3):
        dx[:, :, k : k + d.shape[2]] = d[..., k]


P1 = (normal(4, 3, 3, seed=2), normal(4, seed=3))


def windows(x):
    y = x.reshape(2, 3, 2, 2, 3, 2).amax((3, 5))
    return y, (x, y)


WRONG = [
    wrong("kernel not flipped", dx=unflipped,
        says=r"is wrong in 180 of 180 places, .* \(line \d+\)"),
    wrong("dw flipped", dw=lambda p, c, g, dw: dw.flip((2, 3)), says="in the wrong places"),
    wrong("padding cut at the start only", dx=cut(0), says="padding"),
    wrong("db averaged over the batch", db=lambda p, c, g, db: db / 2, says="2 times too small"),
    wrong("db summed over the batch alone", db=lambda p, c, g, db: g.sum(0),
        says="not summed over axes 1, 2"),
    wrong("sign of dx", dx=lambda p, c, g, dx: -dx, says="wrong sign", net=PLAIN),
    wrong("dx zero", dx=lambda p, c, g, dx: 0 * dx, says="is zero", net=PLAIN),
    wrong("dw of the first image", dw=lambda p, c, g, dw: (
            functional.conv2d(c.x[:1].transpose(0, 1), g[:1].transpose(0, 1)).transpose(0, 1)
            if hasattr(c, "x") else dw), says=r"is wrong in 108 of 108 places, .* \(line \d+\)",
        net=PLAIN),
    Submission("convolution", "written out: overlap overwritten",
        trained(conv1d, conv1d_backward(overwritten)), SEQUENCE, "overwritten", P1),
]  # fmt: skip
RIGHT = [
    Submission("convolution", "by windows", trained(conv1d, conv1d_backward(spread)), SEQUENCE, "",
        P1),
    Submission("convolution", "by conv_transpose2d", trained(
            lambda w, x: (functional.conv2d(x, w, stride=2), x), lambda w, x, g: (
                functional.conv_transpose2d(g, w, stride=2, output_padding=(0, 1)),
                torch.nn.grad.conv2d_weight(x, w.shape, g, stride=2))), X, "",
        normal(4, 3, 3, 3, seed=6)),
]  # fmt: skip
