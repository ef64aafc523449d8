"""Padding of one, two or three spatial axes, in constant, reflect, replicate or circular mode.

Derivation. Element j of y copies element s(j) of x. Along one axis, with l new elements before x's
n and r after them, j = -l ... n + r - 1 and

    s(j) = (n - 1) - abs((n - 1) - abs(j))    reflect: mirrored, the edge not repeated
    s(j) = min(max(j, 0), n - 1)    replicate: the edge
    s(j) = j mod n    circular: the other end

In constant mode y_j = x_j within x, and the constant elsewhere. dy_j/dx_i is 1 where s(j) = i, and
0 elsewhere. So

    dx_i = sum_(j: s(j) = i) g_j

That is g_i plus the g of all copies of x_i. Axes are padded, and run backward, one after the other.

Cache: the shape of y, the amounts and the mode.
"""

from __future__ import annotations

from functools import partial

from lincoln_fn import core
from lincoln_fn.core import Bound, Layer, NonNegativeSizes, bare, over_axes, record, static
from lincoln_fn.layers.common import pad_axes
from lincoln_fn.layers.common.pad_axes import Amounts
from lincoln_fn.layers.common.shapes import Image, Moved
from lincoln_fn.layers.common.spatial import Sizes, check_image
from lincoln_fn.layers.common.stand_in import stand_in


@record
class Cache:
    """A stand-in for y, how many elements were added before and after each axis, and the mode."""

    y: Moved
    amounts: Amounts = static()
    mode: str = static()


def forward(
    params: tuple[()], x: Image, *, padding: tuple[int, ...], mode: str = "constant",
    value: float = 0.0, layer: str = "pad",
) -> tuple[Moved, Cache]:  # fmt: skip
    """Compute y_j = x_(s(j)), or the constant; `padding` is in torch's order, last axis first."""
    amounts = tuple(zip(padding[::2], padding[1::2], strict=True))[::-1]
    check_image(layer, x, len(amounts))
    pad_axes.check_amounts(layer, x, amounts, mode)
    y = pad_axes.pad(x, amounts, mode, value)
    return y, Cache(stand_in(y), amounts, mode)


core.declare(forward, kind="moving")


def backward(params: tuple[()], cache: Cache, g: Moved) -> tuple[Image, tuple[()]]:
    """Compute dx_i = sum_(j: s(j) = i) g_j."""
    return pad_axes.fold(g, cache.amounts, cache.mode), ()


def _zero_pad_nd(n: int, padding: int | Sizes) -> Layer:
    """Pad x of shape (channels, *spatial), or a batch of these, with zeros.

    Args:
        padding: how many elements to add: (left, right) on the last axis, then (top, bottom) and
            (front, back) on those before it; or one number for all. Negative numbers remove
            elements.

    Example:
        >>> zero_pad2d((1, 2, 0, 0))
        zero_pad2d((1, 2, 0, 0))
    """
    return _pad(n, "zero", "constant", padding)


zero_pad1d, zero_pad2d, zero_pad3d = over_axes(_zero_pad_nd)


def _constant_pad_nd(n: int, padding: int | Sizes, value: Bound) -> Layer:
    """Pad with a constant value. x and padding are as `zero_pad1d` and its like take them.

    Example:
        >>> constant_pad2d(1, 0.5)
        constant_pad2d(1, 0.5)
    """
    return _pad(n, "constant", "constant", padding, value)


constant_pad1d, constant_pad2d, constant_pad3d = over_axes(_constant_pad_nd)


def _reflection_pad_nd(n: int, padding: NonNegativeSizes) -> Layer:
    """Pad by reflecting x. The edge is not repeated.

    x and padding are as `zero_pad1d` and its like take them; each number is below the axis's size.

    Example:
        >>> reflection_pad2d((1, 2, 0, 0))
        reflection_pad2d((1, 2, 0, 0))
    """
    return _pad(n, "reflection", "reflect", padding)


reflection_pad1d, reflection_pad2d, reflection_pad3d = over_axes(_reflection_pad_nd)


def _replication_pad_nd(n: int, padding: NonNegativeSizes) -> Layer:
    """Pad by repeating x's edge. x and padding are as `zero_pad1d` and its like take them.

    Example:
        >>> replication_pad2d((1, 2, 0, 0))
        replication_pad2d((1, 2, 0, 0))
    """
    return _pad(n, "replication", "replicate", padding)


replication_pad1d, replication_pad2d, replication_pad3d = over_axes(_replication_pad_nd)


def _circular_pad_nd(n: int, padding: NonNegativeSizes) -> Layer:
    """Pad with the opposite end of x.

    x and padding are as `zero_pad1d` and its like take them; no number is above the axis's size.

    Example:
        >>> circular_pad2d((1, 2, 0, 0))
        circular_pad2d((1, 2, 0, 0))
    """
    return _pad(n, "circular", "circular", padding)


circular_pad1d, circular_pad2d, circular_pad3d = over_axes(_circular_pad_nd)


def _pad(n: int, kind: str, mode: str, padding: int | Sizes, value: float = 0.0) -> Layer:
    sizes, layer = (padding,) * (2 * n) if isinstance(padding, int) else padding, f"{kind}_pad{n}d"
    fits = len(sizes) == 2 * n
    core.require(fits, layer, f"padding as an int or a tuple of {2 * n}", padding)
    there = partial(forward, padding=sizes, mode=mode, value=value, layer=layer)
    return bare(Layer, there, backward)
