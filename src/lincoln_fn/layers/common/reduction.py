"""Shared by the layers that reduce axes of x to one number."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from torch import Tensor

from lincoln_fn.core import NOT_EMPTY, LayerError, check_axis

# One axis, several, or None for all.
Dims: TypeAlias = int | Annotated[tuple[int, ...], NOT_EMPTY] | None


def axes_of(layer: str, x: Tensor, dim: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the axes that are reduced, counted from the front, in ascending order."""
    if dim is None:
        return tuple(range(x.ndim))
    dims = (dim,) if isinstance(dim, int) else dim
    for each in dims:
        check_axis(layer, x, each)
    axes = sorted({each % x.ndim for each in dims})
    if len(axes) < len(dims):
        raise LayerError(layer, f"expected different axes, got dim={dim} for {x.ndim} axes")
    return tuple(axes)


def with_axes(reduced: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Put the reduced axes back, with size 1."""
    for axis in axes:
        reduced = reduced.unsqueeze(axis)
    return reduced
