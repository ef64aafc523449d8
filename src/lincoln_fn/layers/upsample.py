"""Upsampling to a given size, or by a factor: every y_o is a weighted mean of neighbouring x_i.

Derivation. Along an axis of L elements, from which n are computed, y_o is at the position

    u = (o + 1/2) r - 1/2    with r = L / n
    u = o r    with r = (L - 1) / (n - 1), for `align_corners`

in x. If a `scale_factor` is given, r = 1 / scale_factor. With f = u - floor(u), A_(oi) is

    1 for i = floor(o r)    nearest
    1 for i = floor((o + 1/2) r)    nearest-exact
    1 - f, f for i = floor(u), floor(u) + 1    linear, where u < 0 counts as 0
    k(1 + f), k(f), k(1 - f), k(2 - f) for i = floor(u) - 1, ..., floor(u) + 2    bicubic

with Keys' kernel, with a = -3/4:

    k(t) = (a + 2) t^3 - (a + 3) t^2 + 1    t <= 1
    k(t) = a t^3 - 5 a t^2 + 8 a t - 4 a    1 < t <= 2

An i outside x means the element at its edge. Bilinear and trilinear are linear along each axis; an
axis whose size does not change is copied. Several axes are computed one after the other. Along
each, y is linear in x, with an A that does not depend on x. Its transpose computes dx:

    y_o = sum_i A_(oi) x_i
    dx_i = sum_o A_(oi) g_o

Cache: the shape of y, and the numbers that A is computed from. Source of the kernel: Keys,
"Cubic Convolution Interpolation for Digital Image Processing" (1981), equation 15, with another a.
"""

from __future__ import annotations

from functools import reduce
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Channels, Layer, Moved, Positive, PositiveSizes, Sizes, require, static

Factors: TypeAlias = Positive | Annotated[tuple[Positive, ...], core.NOT_EMPTY]
Mode: TypeAlias = Literal["nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic"]

# By mode, the numbers of spatial axes that it supports.
_AXES: Final = {
    "nearest": (1, 2, 3), "nearest-exact": (1, 2, 3), "linear": (1,), "bilinear": (2,),
    "trilinear": (3,), "bicubic": (2,),
}  # fmt: skip
# Terms of y_o: for each, the i and the A_(oi) of every o.
Terms = list[tuple[Int[Tensor, " n"], Float[Tensor, " n"]]]


class Axis(NamedTuple):
    """The sizes L of x and n of y along one axis, and the ratio r."""

    of_x: int
    of_y: int
    ratio: float


@core.record
class Cache:
    y: Moved
    axes: tuple[Axis, ...] = static()
    mode: str = static()
    align_corners: bool = static()


def forward(
    params: tuple[()], x: Channels, *, size: int | Sizes | None,
    scale_factor: float | tuple[float, ...] | None, mode: str, align_corners: bool,
) -> tuple[Moved, Cache]:  # fmt: skip
    """Compute y_o = sum_i A_(oi) x_i along each axis."""
    axes = _axes(x, size, scale_factor, mode, align_corners)
    y = x
    for dim, axis in enumerate(axes, 2):
        terms = _terms(axis, mode, align_corners, x)
        y = reduce(torch.add, [_along(dim, a, y) * y.index_select(dim, i) for i, a in terms])
    y = y.to(x.dtype)
    return y, Cache(core.stand_in(y), axes, mode, align_corners)


def backward(params: tuple[()], cache: Cache, g: Moved) -> tuple[Channels, tuple[()]]:
    """Compute dx_i = sum_o A_(oi) g_o along each axis."""
    dx = g
    for dim, axis in enumerate(cache.axes, 2):
        terms = _terms(axis, cache.mode, cache.align_corners, g)
        weighted = [(i, _along(dim, a, dx) * dx) for i, a in terms]
        dx = weighted[0][1].new_zeros(*dx.shape[:dim], axis.of_x, *dx.shape[dim + 1 :])
        for i, term in weighted:
            dx = dx.index_add(dim, i, term)
    return dx.to(g.dtype), ()


def _axes(
    x: Tensor, size: int | Sizes | None, scale_factor: float | tuple[float, ...] | None, mode: str,
    align_corners: bool,
) -> tuple[Axis, ...]:  # fmt: skip
    own = tuple(x.shape[2:])
    if len(own) not in _AXES[mode] or 0 in x.shape[1:]:
        axes = " or ".join(map(str, _AXES[mode]))
        expected = f"x of shape (batch, channels, *spatial) with {axes} spatial axes"
        raise core.unexpected("upsample", f"{expected} for mode={mode!r}", x.shape)
    asked = size if scale_factor is None else scale_factor
    wanted = asked if isinstance(asked, tuple) else (asked or 0,) * len(own)
    pairs = zip(own, wanted, strict=False)
    sizes = tuple(int(to if scale_factor is None else length * to) for length, to in pairs)
    if len(wanted) != len(own) or min(sizes) < 1:
        name = "size" if scale_factor is None else "scale_factor"
        expected = f"x with spatial axes to upsample to {name}={asked}"
        raise core.unexpected("upsample", expected, x.shape)
    scales = (None,) * len(own) if scale_factor is None else wanted
    return tuple(
        Axis(of_x, of_y, _ratio(of_x, of_y, scale, mode, align_corners))
        for of_x, of_y, scale in zip(own, sizes, scales, strict=True)
    )


def _ratio(of_x: int, of_y: int, scale: float | None, mode: str, align_corners: bool) -> float:
    if mode.endswith("linear") and of_x == of_y:
        return 1.0
    if align_corners:
        return (of_x - 1) / (of_y - 1) if of_y > 1 else 0.0
    return of_x / of_y if scale is None else 1 / scale


def _terms(axis: Axis, mode: str, align_corners: bool, x: Tensor) -> Terms:
    # torch rounds positions to float32, which decides on which side of a whole number they are.
    dtype = torch.float64 if x.dtype is torch.float64 else torch.float32
    o = torch.arange(axis.of_y, dtype=dtype, device=x.device)
    if mode.startswith("nearest"):
        place = (o if mode == "nearest" else o + 0.5) * axis.ratio
        return [(_within(axis, place), torch.ones_like(o))]
    u = o * axis.ratio if align_corners else (o + 0.5) * axis.ratio - 0.5
    if mode != "bicubic":
        u = u.clamp(min=0)
    low = u.floor()
    f = u - low
    if mode != "bicubic":
        return [(_within(axis, low), 1 - f), (_within(axis, low + 1), f)]
    weights = (_far(1 + f), _near(f), _near(1 - f), _far(2 - f))
    return [(_within(axis, low + k), weight) for k, weight in enumerate(weights, -1)]


def _within(axis: Axis, i: Tensor) -> Tensor:
    return i.long().clamp(0, axis.of_x - 1)


def _near(t: Tensor, a: float = -0.75) -> Tensor:
    """Compute k(t) = (a + 2) t^3 - (a + 3) t^2 + 1."""
    return (a + 2) * t**3 - (a + 3) * t**2 + 1


def _far(t: Tensor, a: float = -0.75) -> Tensor:
    """Compute k(t) = a t^3 - 5 a t^2 + 8 a t - 4 a."""
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a


def _along(dim: int, weight: Tensor, x: Tensor) -> Tensor:
    return weight.view(-1, *[1] * (x.ndim - dim - 1))


@core.constructor(kind="moving")
def upsample(
    size: PositiveSizes | None = None, scale_factor: Factors | None = None, mode: Mode = "nearest",
    align_corners: bool = False,
) -> Layer:  # fmt: skip
    """Interpolate x of shape (batch, channels, *spatial).

    Args:
        size: of y, one number for all spatial axes or one for each.
        scale_factor: y's size divided by x's, rounded down; instead of size.
        mode: "nearest" or "nearest-exact", with any number of spatial axes; "linear" with one,
            "bilinear" or "bicubic" with two, "trilinear" with three.
        align_corners: whether the first and the last elements of y are at those of x; if not, the
            outer edges of x and y are aligned. The nearest modes have no such choice.

    Example:
        >>> upsample(scale_factor=2, mode="linear").predict((), torch.tensor([[[1.0, 2.0]]]))
        tensor([[[1.0000, 1.2500, 1.7500, 2.0000]]])
    """
    just_one = (size is None) != (scale_factor is None)
    require(just_one, "upsample", "either size or scale_factor", (size, scale_factor))
    aligns = not align_corners or not mode.startswith("nearest")
    require(aligns, "upsample", f"no align_corners with mode={mode!r}", align_corners)
    return core.bare(Layer, forward, backward)
