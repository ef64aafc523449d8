"""Padding of a tensor's last axes and its transpose, derived in `pad.py`, axis by axis."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lincoln_fn.core import LayerError
from lincoln_fn.layers.common.shapes import Image, Moved

# For each of the last axes, in their order, how many elements come before and how many after.
Amounts = tuple[tuple[int, int], ...]


def check_amounts(layer: str, x: Tensor, amounts: Amounts, mode: str) -> None:
    """Check that an input has enough elements to copy from."""
    for n, pair in zip(x.shape[-len(amounts) :], amounts, strict=True):
        if mode == "constant":
            if n + sum(min(amount, 0) for amount in pair) < 0:
                raise LayerError(layer, f"expected at most {n} elements to remove, got {pair}")
            continue
        most = {"reflect": n - 1, "circular": n, "replicate": math.inf if n else 0}[mode]
        if min(pair) < 0 or max(pair) > most:
            problem = f"expected padding from 0 to {most} for {mode} on an axis of {n}, got {pair}"
            raise LayerError(layer, problem)


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
