"""Padding by ATen's kernels, and its gradient by sums over slices.

The formula gathers every element by its index, and adds every gradient at its index. Here only
what was copied is added, and the rest of g is copied as a block. Forward and backward together
take 0.25 to 0.35 of the formula's time; in constant mode the two are the same.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lincoln_fn.fastpath.twin import Twin
from lincoln_fn.layers import pad as formula
from lincoln_fn.layers._padding import Amounts, check_amounts, flat
from lincoln_fn.layers._spatial import check_image
from lincoln_fn.layers._stand_in import stand_ins
from lincoln_fn.layers.pad import Cache
from lincoln_fn.shapes import check_cache, check_cotangent, check_input


def forward(
    params: tuple[()],
    x: Float[Tensor, "*batch_and_spatial"],
    *,
    padding: tuple[int, ...],
    mode: str = "constant",
    value: float = 0.0,
) -> tuple[Float[Tensor, "*batch_and_padded"], Cache]:
    """Compute what the formula does, by ATen's kernels."""
    amounts = tuple(zip(padding[::2], padding[1::2], strict=True))[::-1]
    check_input("pad", params, x)
    check_image("pad", x, len(amounts))
    check_amounts("pad", x, amounts, mode)
    y = pad(x, amounts, mode, value)
    return y, Cache(stand_ins(x, y), amounts, mode)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch_and_padded"]
) -> tuple[Float[Tensor, "*batch_and_spatial"], tuple[()]]:
    """Compute what the formula does, by sums over slices."""
    check_cache("pad", cache, Cache)
    check_cotangent("pad", g, cache.shapes.y)
    return fold(g, cache.amounts, cache.mode), ()


def pad(
    x: Float[Tensor, "*batch_and_spatial"], amounts: Amounts, mode: str, value: float = 0.0
) -> Float[Tensor, "*batch_and_padded"]:
    """Pad the last axes, channels-last where x is."""
    if mode == "circular":
        for axis, pair in enumerate(amounts, x.ndim - len(amounts)):
            x = _wrapped(x, axis, pair)
        return x
    return F.pad(x, flat(amounts), mode, value if mode == "constant" else None)


def fold(
    g: Float[Tensor, "*batch_and_padded"], amounts: Amounts, mode: str
) -> Float[Tensor, "*batch_and_spatial"]:
    """Compute the gradient of `pad`, channels-last where g is."""
    if mode == "constant":
        return F.pad(g, [-amount for amount in flat(amounts)])
    for axis, pair in enumerate(amounts, g.ndim - len(amounts)):
        if any(pair):
            g = _folded(g, axis, pair, mode)
    return g


def _wrapped(x: Tensor, axis: int, pair: tuple[int, int]) -> Tensor:
    """Pad one axis in circular mode, where `F.pad` would lose a channels-last layout."""
    before, after = pair
    pieces = [x]
    # An empty piece would lose that layout too.
    if before:
        pieces.insert(0, x.narrow(axis, x.shape[axis] - before, before))
    if after:
        pieces.append(x.narrow(axis, 0, after))
    return torch.cat(pieces, axis)


def _folded(g: Tensor, axis: int, pair: tuple[int, int], mode: str) -> Tensor:
    """Add what stands before and after an axis's own elements to those that it was copied from."""
    before, after = pair
    n = g.shape[axis] - before - after
    first, within, last = torch.split_with_sizes(g, (before, n, after), axis)
    dx = within.clone()
    if mode == "reflect":
        dx.narrow(axis, 1, before).add_(first.flip(axis))
        dx.narrow(axis, n - 1 - after, after).add_(last.flip(axis))
    elif mode == "replicate":
        dx.narrow(axis, 0, 1).add_(first.sum(axis, keepdim=True))
        dx.narrow(axis, n - 1, 1).add_(last.sum(axis, keepdim=True))
    else:
        dx.narrow(axis, n - before, before).add_(first)
        dx.narrow(axis, 0, after).add_(last)
    return dx


TWINS: Final = (Twin(formula, forward=forward, backward=backward),)
