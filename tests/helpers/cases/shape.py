"""Shapes: axes joined, split and moved, pixels shuffled, interpolation, and padding."""

from torch import nn

import lincoln_fn as lf
from helpers.cases.case import Case, both, by_module, normal

LINE, PLANE, SPACE = normal(2, 3, 5), normal(2, 3, 5, 4), normal(2, 3, 4, 5, 6)

VIEWS = [
    Case(lf.flatten(), PLANE, by_module(nn.Flatten())),
    Case(lf.flatten(), normal(2, 3), by_module(nn.Flatten()), note="flat already"),
    Case(lf.flatten(-3, 2), PLANE, by_module(nn.Flatten(-3, 2))),
    Case(lf.unflatten(1, (2, 3)), normal(5, 6), by_module(nn.Unflatten(1, (2, 3)))),
    Case(lf.unflatten(-2, (2, -1)), normal(5, 6, 4), by_module(nn.Unflatten(-2, (2, -1)))),
    Case(lf.reshape(5, 12), PLANE, lambda params, x: x.reshape(2, 5, 12)),
    Case(lf.reshape(5, -1, 2), PLANE, lambda params, x: x.reshape(2, 5, 6, 2)),
    Case(lf.reshape(-1), PLANE, by_module(nn.Flatten())),
    Case(lf.permute(0, 2, 3, 1), PLANE, lambda params, x: x.permute(0, 2, 3, 1)),
    Case(lf.permute(-1, 0, 1), LINE, lambda params, x: x.permute(2, 0, 1)),
    Case(lf.take(0, 1), LINE, lambda params, x: x[:, 0]),
    Case(lf.take(-2, -1), PLANE, lambda params, x: x[..., 2]),
]

PIXELS = [
    Case(lf.pixel_shuffle(2), normal(2, 12, 5, 4), by_module(nn.PixelShuffle(2))),
    Case(lf.pixel_shuffle(3), normal(18, 5, 4), by_module(nn.PixelShuffle(3))),
    Case(lf.pixel_unshuffle(2), normal(2, 3, 10, 8), by_module(nn.PixelUnshuffle(2))),
    Case(lf.pixel_unshuffle(3), normal(2, 6, 9), by_module(nn.PixelUnshuffle(3))),
]


UPSAMPLE = [
    # torch takes no align_corners for a nearest mode, and None, which is False, elsewhere.
    both("upsample", LINE, scale_factor=2),
    both("upsample", LINE, size=7),
    both("upsample", PLANE, scale_factor=1.7, mode="nearest-exact"),
    both("upsample", SPACE, size=(5, 7, 4), mode="nearest-exact"),
    both("upsample", LINE, size=8, mode="linear"),
    both("upsample", LINE, scale_factor=2.3, mode="linear"),
    both("upsample", LINE, size=8, mode="linear", align_corners=True),
    both("upsample", PLANE, size=(8, 3), mode="bilinear"),
    both("upsample", PLANE, scale_factor=2, mode="bilinear", align_corners=True),
    both("upsample", SPACE, scale_factor=1.5, mode="trilinear"),
    both("upsample", PLANE, scale_factor=2.3, mode="bicubic"),
    both("upsample", PLANE, size=(8, 7), mode="bicubic", align_corners=True),
    both("upsample", normal(1, 3, 1, 4), size=(3, 7), mode="bilinear"),
    both("upsample", LINE, scale_factor=1.1, mode="linear"),
    # torch's gradient of these is not that of its y, so it is no oracle: it takes the factor for 1,
    # or for 2.
    Case(lf.upsample(scale_factor=1.1), LINE),
    Case(lf.upsample(scale_factor=2.3), normal(2, 3, 2)),
    Case(lf.upsample(scale_factor=1.1, mode="bicubic"), PLANE),
]


def pad(kind, x, *arguments, note=""):
    n = x.ndim - 1 if note else x.ndim - 2
    return both(f"{kind}_pad{n}d", x, *arguments, note=note)


PADDING = [
    pad("zero", LINE, (2, 1)),
    pad("zero", PLANE, (1, 2, 3, 0)),
    pad("zero", PLANE, (1, -2, -1, 3)),
    pad("zero", SPACE, (1, 2, 0, 3, 1, 0)),
    pad("constant", LINE, (2, 1), 0.5),
    pad("constant", PLANE, 2, -1.5),
    pad("constant", SPACE, (1, 2, 0, 3, 1, 0), 0.5),
    pad("constant", normal(3, 5, 4), (1, 2, 3, 0), 0.5, note="without batch"),
    *(case for kind in ("reflection", "replication", "circular") for case in (
        pad(kind, LINE, (2, 1)), pad(kind, LINE, 4),
        pad(kind, normal(3, 5), (2, 1), note="without batch"), pad(kind, PLANE, (1, 3, 2, 0)),
        pad(kind, normal(3, 5, 4), (1, 2, 3, 0), note="without batch"),
        pad(kind, SPACE, (1, 2, 0, 3, 1, 2)))),
    pad("replication", LINE, (7, 8)),
    pad("circular", LINE, 5),
]  # fmt: skip

CASES = [*VIEWS, *PIXELS, *UPSAMPLE, *PADDING]
