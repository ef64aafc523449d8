"""How the arguments of layers over one, two or three spatial axes are drawn.

Rows are as in layers.py.
"""

import torch

import lincoln_fn as lf
from helpers.fuzzing.draws import chance, divisor, options, per_axis, size

SPATIAL = (3, 4, 5)


def conv(n):
    """Give the row of the convolution over n axes."""

    def draw(r, s):
        groups = divisor(r, s[1]) if chance(r, 0.3) else 1
        return getattr(lf, f"conv{n}d")(
            groups * max(size(r) // groups, 1),
            per_axis(r, n, (1, 2, 3, 3)),
            groups=groups,
            **options(
                r, stride=(2, 3), padding=(1, 2, "same", "valid", (1,) * n), dilation=(2,),
                bias=(False,), padding_mode=("reflect", "replicate", "circular"),
            ),
        )  # fmt: skip

    return (n + 2,), draw


def conv_transpose(n):
    """Give the row of the transposed convolution over n axes."""

    def draw(r, s):
        groups = divisor(r, s[1]) if chance(r, 0.3) else 1
        return getattr(lf, f"conv_transpose{n}d")(
            groups * max(size(r) // groups, 1),
            per_axis(r, n, (1, 2, 3)),
            groups=groups,
            **options(
                r, stride=(2, (2,) * n), padding=(1,), output_padding=(1,), dilation=(2,),
                bias=(False,),
            ),
        )  # fmt: skip

    return (n + 2,), draw


def of_axes(name, row):
    """Give a family's rows over one, two and three axes."""
    return {f"{name}{n}d": row(n) for n in (1, 2, 3)}


CONVOLUTIONS = {**of_axes("conv", conv), **of_axes("conv_transpose", conv_transpose)}


def with_places(rng, make):
    """Draw whether a pooling layer also gives the places of its maxima, which are left out then."""
    if chance(rng, 0.15):
        return lf.serial(make(return_indices=True), lf.select(0))
    return make()


def windows(rng, n, **more):
    """Draw the arguments of a pooling layer's windows."""
    drawn = options(rng, stride=(1, 2, 3), padding=(1,), ceil_mode=(True,), **more)
    return {"kernel_size": per_axis(rng, n, (1, 2, 2, 3)), **drawn}


def max_pool(n):
    def draw(r, s):
        drawn = windows(r, n, dilation=(2,))
        return with_places(r, lambda **more: getattr(lf, f"max_pool{n}d")(**drawn, **more))

    return (n + 2,), draw


def avg_pool(n):
    more = {"divisor_override": (5,)} if n > 1 else {}
    return (n + 2,), lambda r, s: getattr(lf, f"avg_pool{n}d")(
        **windows(r, n, count_include_pad=(False,), **more)
    )


def lp_pool(n):
    def draw(r, s):
        drawn = windows(r, n)
        drawn.pop("padding", None)
        return getattr(lf, f"lp_pool{n}d")(r.choice((2, 2.0, 4, 3)), **drawn)

    return (n + 2,), draw


def adaptive_avg_pool(n):
    return (n + 2,), lambda r, s: getattr(lf, f"adaptive_avg_pool{n}d")(
        per_axis(r, n, (1, 2, 3, 5))
    )


def adaptive_max_pool(n):
    def draw(r, s):
        sizes = per_axis(r, n, (1, 2, 3))
        return with_places(r, lambda **more: getattr(lf, f"adaptive_max_pool{n}d")(sizes, **more))

    return (n + 2,), draw


def fractional(n):
    def draw(r, s):
        drawn = {"kernel_size": r.choice((1, 2))}
        drawn |= {"output_ratio": 0.6} if chance(r, 0.5) else {"output_size": r.choice((1, 2, 3))}
        make = getattr(lf, f"fractional_max_pool{n}d")
        return with_places(r, lambda **more: make(**drawn, **more))

    return (n + 2,), draw


POOLS = {
    **of_axes("max_pool", max_pool),
    **of_axes("avg_pool", avg_pool),
    **of_axes("lp_pool", lp_pool),
    **of_axes("adaptive_avg_pool", adaptive_avg_pool),
    **of_axes("adaptive_max_pool", adaptive_max_pool),
    "fractional_max_pool2d": fractional(2),
    "fractional_max_pool3d": fractional(3),
    "global_avg_pool": (SPATIAL, lambda r, s: lf.global_avg_pool(keepdim=chance(r, 0.5))),
}


def pad(kind):
    """Give a row a number of axes of a padding."""

    def row(n):
        amounts = (0, 1, 2)
        if kind in ("zero", "constant") and torch.__version__ >= "2.13":
            amounts = (*amounts, -1)  # an older torch pads nothing to nothing

        def draw(r, s):
            given = 1 if chance(r, 0.3) else tuple(r.choice(amounts) for _ in range(2 * n))
            return getattr(lf, f"{kind}_pad{n}d")(given, *((0.5,) if kind == "constant" else ()))

        return (n + 2,), draw

    return of_axes(f"{kind}_pad", row)


PADS = {
    name: row
    for kind in ("zero", "constant", "reflection", "replication", "circular")
    for name, row in pad(kind).items()
}


def upsampled(r, s):
    n = len(s) - 2
    mode = r.choice((*("nearest", "nearest-exact"), *{1: ("linear",), 2: ("bilinear", "bicubic"),
                                                     3: ("trilinear",)}[n]))  # fmt: skip
    ends = {} if "nearest" in mode else options(r, align_corners=(True,))
    if chance(r, 0.5):
        return lf.upsample(size=per_axis(r, n, (1, 2, 5, 7)), mode=mode, **ends)
    return lf.upsample(scale_factor=per_axis(r, n, (1.0, 1.7, 2.0)), mode=mode, **ends)
