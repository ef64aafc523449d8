"""Unflatten: one axis becomes several, element by element in the same order.

Derivation. y has the elements of x at other positions. With i the position in x of element j of y,

    y_j = x_i
    dx_i = g_j    so dx is g in x's shape

Cache: the shapes of x and y.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import torch

from lincoln_fn import core
from lincoln_fn.core import NOT_EMPTY, Elements, Layer, Moved, OpenSize, StandIns, bare, stand_ins
from lincoln_fn.layers.common.inputs import filled

OpenSizes: TypeAlias = Annotated[tuple[OpenSize, ...], NOT_EMPTY]


def forward(
    params: tuple[()], x: Elements, *, dim: int, unflattened_size: tuple[int, ...]
) -> tuple[Moved, StandIns]:
    """Split axis dim into several."""
    core.check_axis("unflatten", x, dim)
    sizes = filled(unflattened_size, x.shape[dim])
    if sizes is None:
        expected = f"x with an axis dim={dim} to split into {unflattened_size}"
        raise core.unexpected("unflatten", expected, f"shape {tuple(x.shape)}")
    y = torch.unflatten(x, dim, sizes)
    return y, stand_ins(x, y)


def backward(params: tuple[()], cache: StandIns, g: Moved) -> tuple[Elements, tuple[()]]:
    """Compute dx = g in x's shape."""
    return g.reshape(cache.x.shape), ()


@core.constructor(kind="moving")
def unflatten(dim: int, unflattened_size: OpenSizes) -> Layer:
    """Split one axis into several; y is a view of x.

    Args:
        dim: the axis, counted from the end if it is negative.
        unflattened_size: the sizes that it is split into; one size may be -1, and is then computed.

    Example:
        >>> unflatten(1, (2, -1)).predict((), torch.zeros(5, 6)).shape
        torch.Size([5, 2, 3])
    """
    is_clear = unflattened_size.count(-1) < 2
    core.require(is_clear, "unflatten", "unflattened_size with at most one -1", unflattened_size)
    return bare(Layer, forward, backward)
