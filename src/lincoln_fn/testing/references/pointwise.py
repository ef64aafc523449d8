"""Activations, and rearrangements of one array."""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

from lincoln_fn.testing.hypotheses.others import list_functions
from lincoln_fn.testing.references.known import Candidates, Known, apply


def find_activation(known: Known) -> Candidates:
    """List the library's activations of one array."""
    (y,) = known.y
    if len(known.arrays) == 1 and known.arrays[0].shape == y.shape:
        for function in list_functions().values():
            yield apply(function, 0)
        yield from _find_slope(known.arrays[0], y)


def _find_slope(x: Tensor, y: Tensor) -> Candidates:
    """List the leaky ReLU whose slope the output shows."""
    below = x < 0
    if bool(below.any()):
        slope = float((y[below] / x[below]).median())
        yield apply(_leak, 0, slope=slope)


def _leak(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def find_rearrangement(known: Known) -> Candidates:
    """List permutations of axes, and other shapes."""
    (y,) = known.y
    if len(known.arrays) != 1 or known.arrays[0].numel() != y.numel():
        return
    for axes in permutations(range(known.arrays[0].ndim)) if known.arrays[0].ndim < 6 else ():
        yield apply(_rearrange, 0, axes=axes, shape=y.shape)


def _rearrange(x: Tensor, axes: tuple[int, ...], shape: torch.Size) -> Tensor:
    return x.permute(axes).reshape(shape)


def find_reduction(known: Known) -> Candidates:
    """List sums, means and the largest along each axis."""
    (_y,) = known.y
    if len(known.arrays) != 1:
        return
    for axis in range(known.arrays[0].ndim):
        for function in (torch.sum, torch.mean, torch.amax, torch.logsumexp):
            for keepdim in (False, True):
                yield apply(function, 0, dim=axis, keepdim=keepdim)
    for function in (torch.sum, torch.mean):
        yield apply(function, 0)
