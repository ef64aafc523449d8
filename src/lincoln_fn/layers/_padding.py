"""Padding of the last axes of a tensor, and its gradient: what the layers that pad share.

Derivation. Along one axis of n elements, with l new ones before and r after, padding copies:
y_j = x_s(j) for j = -l ... n + r - 1, where

    reflect     s(j) = -j before and 2 (n - 1) - j after: mirrored, the edge not repeated
    replicate   s(j) = 0 before and n - 1 after: the edge
    circular    s(j) = j + n before and j - n after: the other end

and s(j) = j within. An element's gradient is the sum over its copies, dx_i = the sum of g_j over
all j with s(j) = i, which adds what was copied back to where it came from:

    dx_i = g_i, and further
    reflect     g_-i                  for 1 <= i <= l,   g_2(n-1)-i for n - 1 - r <= i <= n - 2
    replicate   the sum of g before   for i = 0,         the sum of g after for i = n - 1
    circular    g_i-n                 for i >= n - l,    g_i+n for i < r

In constant mode the new elements depend on no x, and dx is what g has within. Several axes are
padded one after the other, so their gradients are folded one after the other.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lincoln_fn.shapes import LayerError

# For each of the last axes, in their order, how many elements come before and how many after.
Amounts = tuple[tuple[int, int], ...]


def check_amounts(layer: str, x: Tensor, amounts: Amounts, mode: str) -> None:
    """Check that an input has enough elements to copy from.

    Args:
        layer: the layer's name.
        x: the input.
        amounts: as `pad` has them.
        mode: as `pad` has it.

    Raises:
        LayerError: if it has not, or an amount is negative in a mode other than constant.

    Example:
        >>> check_amounts("pad", torch.zeros(1, 1, 3), ((3, 0),), "reflect")
        Traceback (most recent call last):
        lincoln_fn.shapes.LayerError: pad: expected padding from 0 to 2 for reflect on an axis of \
3, got (3, 0)
    """
    for n, pair in zip(x.shape[-len(amounts) :], amounts, strict=True):
        if mode == "constant":
            if n + sum(pair) < 0:
                raise LayerError(layer, f"expected padding of at least {-n} in all, got {pair}")
            continue
        most = {"reflect": n - 1, "circular": n, "replicate": math.inf if n else 0}[mode]
        if min(pair) < 0 or max(pair) > most:
            problem = f"expected padding from 0 to {most} for {mode} on an axis of {n}, got {pair}"
            raise LayerError(layer, problem)


def pad(
    x: Float[Tensor, "*batch_and_spatial"], amounts: Amounts, mode: str, value: float = 0.0
) -> Float[Tensor, "*batch_and_padded"]:
    """Pad the last axes.

    Args:
        x: of shape (channels, *spatial) or (batch, channels, *spatial), with one to three spatial
            axes; in constant mode, of any shape.
        amounts: for each spatial axis, in their order, how many elements come before and after. In
            constant mode, a negative number takes elements away.
        mode: "constant", "reflect", "replicate" or "circular".
        value: of the new elements in constant mode.

    Returns:
        The padded tensor, channels-last where x is.

    Example:
        >>> pad(torch.tensor([[1.0, 2.0, 3.0]]), ((2, 1),), "reflect")
        tensor([[3., 2., 1., 2., 3., 2.]])
    """
    if mode == "circular":
        for axis, pair in enumerate(amounts, x.ndim - len(amounts)):
            x = _wrapped(x, axis, pair)
        return x
    return F.pad(x, _flat(amounts), mode, value if mode == "constant" else None)


def pad_backward(
    g: Float[Tensor, "*batch_and_padded"], shape: tuple[int, ...], amounts: Amounts, mode: str
) -> Float[Tensor, "*batch_and_spatial"]:
    """Compute dx_i = the sum of g_j over all j that copied element i.

    Args:
        g: dL/dy, of the padded shape.
        shape: of x.
        amounts: those given to `pad`.
        mode: that given to `pad`.

    Returns:
        dx, of the given shape.

    Example:
        >>> pad_backward(torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0]]), (1, 3), ((1, 1),), "circular")
        tensor([[18.,  4.,  9.]])
    """
    if mode == "constant":
        return F.pad(g, [-amount for amount in _flat(amounts)])
    for axis, pair in enumerate(amounts, len(shape) - len(amounts)):
        if any(pair):
            g = _folded(g, axis, shape[axis], pair, mode)
    return g


def _flat(amounts: Amounts) -> list[int]:
    """List the amounts as `F.pad` takes them: the last axis first."""
    return [amount for pair in reversed(amounts) for amount in pair]


def _wrapped(x: Tensor, axis: int, pair: tuple[int, int]) -> Tensor:
    """Pad one axis in circular mode, where `F.pad` would lose a channels-last order."""
    before, after = pair
    pieces = [x]
    # An empty piece would lose that order too.
    if before:
        pieces.insert(0, x.narrow(axis, x.shape[axis] - before, before))
    if after:
        pieces.append(x.narrow(axis, 0, after))
    return torch.cat(pieces, axis)


def _folded(g: Tensor, axis: int, n: int, pair: tuple[int, int], mode: str) -> Tensor:
    """Add what lies before and after the n elements of an axis to those that it was copied from."""
    before, after = pair
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
