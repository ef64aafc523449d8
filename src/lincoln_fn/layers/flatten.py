"""Flatten: neighbouring axes become one, element by element in the same order.

Derivation. y has the elements of x at other positions. With i the position in x of element j of y,

    y_j = x_i
    dx_i = g_j

so dx is g in x's shape.

Cache: the shapes of x and y.
"""

from __future__ import annotations

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Moved, StandIns, bare, check_axis, require, stand_ins


def forward(
    params: tuple[()], x: Elements, *, start_dim: int, end_dim: int
) -> tuple[Moved, StandIns]:
    """Join the axes from start_dim to end_dim."""
    check_axis("flatten", x, start_dim)
    check_axis("flatten", x, end_dim)
    if start_dim % x.ndim > end_dim % x.ndim:
        expected = f"start_dim={start_dim} at or before end_dim={end_dim}"
        raise core.unexpected("flatten", expected, f"shape {tuple(x.shape)}")
    y = x.flatten(start_dim, end_dim)
    return y, stand_ins(x, y)


def backward(params: tuple[()], cache: StandIns, g: Moved) -> tuple[Elements, tuple[()]]:
    """Compute dx = g in x's shape."""
    return g.reshape(cache.x.shape), ()


@core.constructor(kind="moving")
def flatten(start_dim: int = 1, end_dim: int = -1) -> Layer:
    """Join the axes from start_dim to end_dim; by default, all but the batch.

    y is a view of x where x's memory layout allows it.

    Example:
        >>> flatten().predict((), torch.zeros(5, 2, 3)).shape
        torch.Size([5, 6])
    """
    ends_first = end_dim < start_dim and (start_dim < 0) == (end_dim < 0)
    require(not ends_first, "flatten", "start_dim at or before end_dim", (start_dim, end_dim))
    return bare(Layer, forward, backward)
