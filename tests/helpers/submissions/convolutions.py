"""Convolutions."""

import attrs
import torch
from torch.nn import functional

import lincoln_fn as lf
from helpers.submissions.submission import Code, Submission, normal, trained

X = normal(2, 3, 5, 6)
PADDED, PLAIN = lf.conv2d(4, 3, padding=1), lf.conv2d(4, 3)


def wrong(what, says, net, **changed):
    """Give a convolution of the library wrong gradients, made of (params, cache, g, right one)."""

    def backward(params, cache, g):
        dx, d = net.backward(params, cache, g)
        right = {"dx": dx, "weight": d.weight, "bias": d.bias}
        right |= {name: of(params, cache, g, right[name]) for name, of in changed.items()}
        return right.pop("dx"), attrs.evolve(d, **right)

    return Submission("convolution", what, net.replace(backward=backward), X, says)


def conv1d(x, w, b):
    windows = x.unfold(2, 3, 1)
    return torch.einsum("bilk,oik->bol", windows, w) + b[:, None], (windows, w)


def conv1d_backward(g, cache):
    windows, w = cache
    dx = torch.zeros(*windows.shape[:2], windows.shape[2] + 2, dtype=g.dtype)
    d = torch.einsum("bol,oik->bilk", g, w)
    for k in range(3):
        dx[:, :, k : k + d.shape[2]] += d[..., k]
    return dx, torch.einsum("bol,bilk->oik", g, windows), g.sum((0, 2))


CONV = Code("convolution", conv1d, conv1d_backward,
    (normal(2, 3, 7, seed=1), normal(4, 3, 3, seed=2), normal(4, seed=3)), np=torch)  # fmt: skip


WRONG = [
    wrong("kernel not flipped", r"is wrong in 180 of 180 places, .* \(line \d+\)", PADDED,
        dx=lambda p, c, g, dx: functional.conv2d(g, p.weight.transpose(0, 1), padding=1)),
    wrong("dw flipped", "in the wrong places", PADDED, weight=lambda p, c, g, dw: dw.flip((2, 3))),
    wrong("padding cut at the start only", "padding", PADDED,
        dx=lambda p, c, g, dx: functional.conv_transpose2d(g, p.weight)[..., :5, :6]),
    wrong("db averaged over the batch", "2 times too small", PADDED,
        bias=lambda p, c, g, db: db / 2),
    wrong("db summed over the batch alone", "not summed over axes 1, 2", PADDED,
        bias=lambda p, c, g, db: g.sum(0)),
    wrong("sign of dx", "wrong sign", PLAIN, dx=lambda p, c, g, dx: -dx),
    wrong("dx zero", "is zero", PLAIN, dx=lambda p, c, g, dx: 0 * dx),
    CONV.submission("overlap overwritten", "overwritten", {"] += d": "] = d"}),
]  # fmt: skip
RIGHT = [
    CONV.submission("by windows"),
    Submission("convolution", "by conv_transpose2d", trained(
            lambda w, x: (functional.conv2d(x, w, stride=2), x), lambda w, x, g: (
                functional.conv_transpose2d(g, w, stride=2, output_padding=(0, 1)),
                torch.nn.grad.conv2d_weight(x, w.shape, g, stride=2))), X, "",
        normal(4, 3, 3, 3, seed=6)),
]  # fmt: skip
