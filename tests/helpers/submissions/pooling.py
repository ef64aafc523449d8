"""Pooling and upsampling."""

import lincoln_fn as lf
from helpers.submissions.submission import Submission, layer, normal

POOL = lf.max_pool2d(2)


def pooled(dx):
    return POOL.replace(backward=lambda p, c, g: (dx(c, g), ()))


def windows(x):
    y = x.reshape(2, 3, 2, 2, 3, 2).amax((3, 5))
    return y, (x, y)


def everywhere(cache, g):
    return g.repeat_interleave(2, 2).repeat_interleave(2, 3)


EVEN = normal(2, 3, 4, 6, seed=4)


def mask_of(cache):
    x, y = cache
    return x == y.repeat_interleave(2, 2).repeat_interleave(2, 3)


WRONG = [
    Submission("pooling", "maximum's gradient sent everywhere",
        pooled(lambda c, g: everywhere(c, g)), EVEN, r"is wrong in 108 of 144 places"),
    Submission("pooling", "written out: sent everywhere", layer(windows, everywhere), EVEN,
        r"is wrong in 108 of 144 places, .* \(line \d+\)"),
    Submission("pooling", "written out: g forgotten",
        layer(windows, lambda c, g: mask_of(c).to(g.dtype)), EVEN, "forgets g"),
    Submission("pooling", "maximum of rows sent everywhere",
        layer(lambda x: (x.max(1).values, x), lambda x, g: g[:, None].expand_as(x)), normal(5, 3),
        "is summed over axis 1, which it should keep"),
    Submission("pooling", "upsampling not summed",
        layer(lambda x: (x.repeat_interleave(2, 1), None), lambda c, g: g[:, ::2]), normal(5, 3),
        "keeps one part where those of several"),
]  # fmt: skip
RIGHT = [
    Submission("pooling", "by a mask of the largest",
        layer(windows, lambda c, g: everywhere(c, g) * mask_of(c)), EVEN),
]  # fmt: skip
