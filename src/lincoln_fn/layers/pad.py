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
Convolutions pad by the same functions.

Cache: the shape of y, the amounts and the mode.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from lincoln_fn import core
from lincoln_fn.core import Bound, Image, Layer, Moved, NonNegativeSizes, Sizes, over_axes, static
from lincoln_fn.layers.common.inputs import check_image

# For each of the last axes, in their order, how many elements come before and how many after.
Amounts = tuple[tuple[int, int], ...]


@core.record
class Cache:
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
    check_amounts(layer, x, amounts, mode)
    y = pad(x, amounts, mode, value)
    return y, Cache(core.stand_in(y), amounts, mode)


core.declare(forward, kind="moving")


def backward(params: tuple[()], cache: Cache, g: Moved) -> tuple[Image, tuple[()]]:
    """Compute dx_i = sum_(j: s(j) = i) g_j."""
    return fold(g, cache.amounts, cache.mode), ()


def _zero_pad_nd(n: int, padding: int | Sizes) -> Layer:
    """Pad x of shape (channels, *spatial), or a batch of these, with zeros.

    Args:
        padding: how many elements to add: (left, right) on the last axis, then (top, bottom) and
            (front, back) on those before it; or one number for all. Negative ones remove elements.

    Example:
        >>> zero_pad1d((1, 2)).predict((), torch.tensor([[5.0, 7.0]]))
        tensor([[0., 5., 7., 0., 0.]])
    """
    return _pad(n, "zero", "constant", padding)


zero_pad1d, zero_pad2d, zero_pad3d = over_axes(_zero_pad_nd)


def _constant_pad_nd(n: int, padding: int | Sizes, value: Bound) -> Layer:
    """Pad as `zero_pad2d` does, but with a constant value."""
    return _pad(n, "constant", "constant", padding, value)


constant_pad1d, constant_pad2d, constant_pad3d = over_axes(_constant_pad_nd)


def _reflection_pad_nd(n: int, padding: NonNegativeSizes) -> Layer:
    """Pad as `zero_pad2d` does, but by reflecting x at its edge: `abc` becomes `cbabcba`.

    Each number of padding is below the axis's size.
    """
    return _pad(n, "reflection", "reflect", padding)


reflection_pad1d, reflection_pad2d, reflection_pad3d = over_axes(_reflection_pad_nd)


def _replication_pad_nd(n: int, padding: NonNegativeSizes) -> Layer:
    """Pad as `zero_pad2d` does, but by repeating x's edge: `abc` becomes `aaabccc`."""
    return _pad(n, "replication", "replicate", padding)


replication_pad1d, replication_pad2d, replication_pad3d = over_axes(_replication_pad_nd)


def _circular_pad_nd(n: int, padding: NonNegativeSizes) -> Layer:
    """Pad as `zero_pad2d` does, but with the opposite end of x: `abc` becomes `bcabcab`.

    No number of padding is above the axis's size.
    """
    return _pad(n, "circular", "circular", padding)


circular_pad1d, circular_pad2d, circular_pad3d = over_axes(_circular_pad_nd)


def _pad(n: int, kind: str, mode: str, padding: int | Sizes, value: float = 0.0) -> Layer:
    sizes, layer = (padding,) * (2 * n) if isinstance(padding, int) else padding, f"{kind}_pad{n}d"
    core.require(len(sizes) == 2 * n, layer, f"padding as an int or a tuple of {2 * n}", padding)
    there = partial(forward, padding=sizes, mode=mode, value=value, layer=layer)
    return core.bare(Layer, there, backward)


def check_amounts(layer: str, x: Tensor, amounts: Amounts, mode: str) -> None:
    """Check that an input has enough elements to copy from."""
    for n, pair in zip(x.shape[-len(amounts) :], amounts, strict=True):
        if mode == "constant":
            if n + sum(min(amount, 0) for amount in pair) < 0:
                raise core.unexpected(layer, f"at most {n} elements to remove", pair)
            continue
        most = {"reflect": n - 1, "circular": n, "replicate": math.inf if n else 0}[mode]
        if min(pair) < 0 or max(pair) > most:
            wanted = f"padding from 0 to {most} for {mode} on an axis of {n}"
            raise core.unexpected(layer, wanted, pair)


def pad(x: Image, amounts: Amounts, mode: str, value: float = 0.0) -> Moved:
    """Compute y_j = x_(s(j)), or the constant."""
    if mode == "constant":
        return F.pad(x, flat(amounts), value=value)
    for axis, pair in enumerate(amounts, x.ndim - len(amounts)):
        x = x.index_select(axis, _sources(x.shape[axis], pair, mode, x.device))
    return x


def fold(g: Moved, amounts: Amounts, mode: str) -> Image:
    """Compute dx_i = sum_(j: s(j) = i) g_j."""
    if mode == "constant":
        return F.pad(g, [-amount for amount in flat(amounts)])
    for axis, pair in enumerate(amounts, g.ndim - len(amounts)):
        n = g.shape[axis] - sum(pair)
        zeros = g.new_zeros(*g.shape[:axis], n, *g.shape[axis + 1 :])
        g = zeros.index_add(axis, _sources(n, pair, mode, g.device), g)
    return g


def flat(amounts: Amounts) -> list[int]:
    """List the amounts as `F.pad` takes them: the last axis first."""
    return [amount for pair in reversed(amounts) for amount in pair]


def _sources(n: int, pair: tuple[int, int], mode: str, device: torch.device) -> Tensor:
    """Compute s(j) for j = -l ... n + r - 1."""
    before, after = pair
    j = torch.arange(-before, n + after, device=device)
    if mode == "reflect":
        return (n - 1) - ((n - 1) - j.abs()).abs()
    return j.clamp(0, n - 1) if mode == "replicate" else j % n
