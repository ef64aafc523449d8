"""Padding of one, two or three spatial axes, in constant, reflect, replicate or circular mode.

Derivation. Element j of y copies element s(j) of x. Along one axis, with l new elements before x's
n and r after them, j = -l ... n + r - 1 and

    s(j) = (n - 1) - abs((n - 1) - abs(j))    reflect: mirrored, the edge not repeated
    s(j) = min(max(j, 0), n - 1)    replicate: the edge
    s(j) = j mod n    circular: the other end

In constant mode y_j = x_j within x, and the constant elsewhere. dy_j/dx_i is 1 where s(j) = i, and
0 elsewhere. So

    dx_i = sum_(j: s(j) = i) g_j

That is g_i plus the g of all copies of x_i. A constant adds nothing. Several axes are padded one
after the other, and their backward passes run one after the other.

Cache: the shapes of x and y, the amounts and the mode.
"""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.arguments import Bound, NonNegativeSizes, checked, require
from lincoln_fn.declaration import declare
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.layers import _padding
from lincoln_fn.layers._padding import Amounts
from lincoln_fn.layers._spatial import Sizes, check_image
from lincoln_fn.layers._stand_in import StandIns, stand_ins
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input


@record
class Cache:
    """The shapes, how many elements were added before and after each axis, and the mode."""

    shapes: StandIns
    amounts: Amounts = static()
    mode: str = static()


def forward(
    params: tuple[()],
    x: Float[Tensor, "*batch_and_spatial"],
    *,
    padding: tuple[int, ...],
    mode: str = "constant",
    value: float = 0.0,
) -> tuple[Float[Tensor, "*batch_and_padded"], Cache]:
    """Compute y_j = x_(s(j)), or the constant; `padding` is in torch's order, last axis first."""
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    amounts = pairs[::-1]
    check_input("pad", params, x)
    check_image("pad", x, len(amounts))
    _padding.check_amounts("pad", x, amounts, mode)
    y = _padding.pad(x, amounts, mode, value)
    return y, Cache(stand_ins(x, y), amounts, mode)


declare(forward, kind="moving")


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch_and_padded"]
) -> tuple[Float[Tensor, "*batch_and_spatial"], tuple[()]]:
    """Compute dx_i = sum_(j: s(j) = i) g_j."""
    check_cache("pad", cache, Cache)
    check_cotangent("pad", g, cache.shapes.y)
    return _padding.fold(g, cache.amounts, cache.mode), ()


@checked
def zero_pad1d(padding: int | Sizes) -> Layer:
    """Pad x of shape (channels, length), or a batch, as `zero_pad2d` does: (left, right)."""
    return _pad(1, "zero", "constant", padding)


@checked
def zero_pad2d(padding: int | Sizes) -> Layer:
    """Pad x of shape (channels, height, width), or a batch of these, with zeros.

    Args:
        padding: how many elements to add: (left, right, top, bottom), or one number for all;
            negative numbers remove elements.

    Raises:
        ValueError: if there are too many or too few numbers.

    Example:
        >>> zero_pad2d(1)
        zero_pad2d(1)
    """
    return _pad(2, "zero", "constant", padding)


@checked
def zero_pad3d(padding: int | Sizes) -> Layer:
    """Pad x of shape (channels, depth, height, width), or a batch, as `zero_pad2d` does."""
    return _pad(3, "zero", "constant", padding)


@checked
def constant_pad1d(padding: int | Sizes, value: Bound) -> Layer:
    """Pad x of shape (channels, length), or a batch, as `constant_pad2d` does: (left, right)."""
    return _pad(1, "constant", "constant", padding, value)


@checked
def constant_pad2d(padding: int | Sizes, value: Bound) -> Layer:
    """Pad x of shape (channels, height, width), or a batch of these, with a constant.

    Args:
        padding: how many elements to add: (left, right, top, bottom), or one number for all;
            negative numbers remove elements.
        value: of the new elements.

    Raises:
        ValueError: if there are too many or too few numbers.

    Example:
        >>> constant_pad2d(1, 0.5)
        constant_pad2d(1, 0.5)
    """
    return _pad(2, "constant", "constant", padding, value)


@checked
def constant_pad3d(padding: int | Sizes, value: Bound) -> Layer:
    """Pad x of shape (channels, depth, height, width), or a batch, as `constant_pad2d` does."""
    return _pad(3, "constant", "constant", padding, value)


@checked
def reflection_pad1d(padding: NonNegativeSizes) -> Layer:
    """Pad x of shape (channels, length), or a batch, as `reflection_pad2d` does: (left, right)."""
    return _pad(1, "reflection", "reflect", padding)


@checked
def reflection_pad2d(padding: NonNegativeSizes) -> Layer:
    """Pad x of shape (channels, height, width), or a batch of these, by reflecting x.

    The edge is not repeated.

    Args:
        padding: how many elements to add: (left, right, top, bottom), or one number for all, each
            below the axis's size.

    Raises:
        ValueError: if a number is negative, or there are too many or too few.

    Example:
        >>> reflection_pad2d(1)
        reflection_pad2d(1)
    """
    return _pad(2, "reflection", "reflect", padding)


@checked
def reflection_pad3d(padding: NonNegativeSizes) -> Layer:
    """Pad x of shape (channels, depth, height, width), or a batch, as `reflection_pad2d` does."""
    return _pad(3, "reflection", "reflect", padding)


@checked
def replication_pad1d(padding: NonNegativeSizes) -> Layer:
    """Pad x of shape (channels, length), or a batch, as `replication_pad2d` does: (left, right)."""
    return _pad(1, "replication", "replicate", padding)


@checked
def replication_pad2d(padding: NonNegativeSizes) -> Layer:
    """Pad x of shape (channels, height, width), or a batch of these, by repeating x's edge.

    Args:
        padding: how many elements to add: (left, right, top, bottom), or one number for all.

    Raises:
        ValueError: if a number is negative, or there are too many or too few.

    Example:
        >>> replication_pad2d(1)
        replication_pad2d(1)
    """
    return _pad(2, "replication", "replicate", padding)


@checked
def replication_pad3d(padding: NonNegativeSizes) -> Layer:
    """Pad x of shape (channels, depth, height, width), or a batch, as `replication_pad2d` does."""
    return _pad(3, "replication", "replicate", padding)


@checked
def circular_pad1d(padding: NonNegativeSizes) -> Layer:
    """Pad x of shape (channels, length), or a batch, as `circular_pad2d` does: (left, right)."""
    return _pad(1, "circular", "circular", padding)


@checked
def circular_pad2d(padding: NonNegativeSizes) -> Layer:
    """Pad x of shape (channels, height, width), or a batch of these, with the opposite end of x.

    Args:
        padding: how many elements to add: (left, right, top, bottom), or one number for all, each
            at most the axis's size.

    Raises:
        ValueError: if a number is negative, or there are too many or too few.

    Example:
        >>> circular_pad2d(1)
        circular_pad2d(1)
    """
    return _pad(2, "circular", "circular", padding)


@checked
def circular_pad3d(padding: NonNegativeSizes) -> Layer:
    """Pad x of shape (channels, depth, height, width), or a batch, as `circular_pad2d` does."""
    return _pad(3, "circular", "circular", padding)


def _pad(n: int, kind: str, mode: str, padding: int | Sizes, value: float | None = None) -> Layer:
    layer = f"{kind}_pad{n}d"
    sizes = (padding,) * (2 * n) if isinstance(padding, int) else padding
    fits = len(sizes) == 2 * n
    require(fits, layer, f"padding as an int or a tuple of {2 * n}", padding)
    shown = (padding,) if value is None else (padding, value)
    run = partial(forward, padding=sizes, mode=mode, value=value or 0.0)
    return Layer(call_repr(layer, *shown), run, backward)
