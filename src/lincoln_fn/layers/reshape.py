"""Reshape: each example gets another shape, element by element in the same order.

Derivation. y has the elements of x at other positions. With i the position in x of element j of y,

    y_j = x_i
    dx_i = g_j    so dx is g in x's shape

Cache: the shapes of x and y.
"""

from __future__ import annotations

from math import prod

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Moved, OpenSize, StandIns, bare, require, stand_ins
from lincoln_fn.layers.common.inputs import filled


def forward(params: tuple[()], x: Elements, *, shape: tuple[int, ...]) -> tuple[Moved, StandIns]:
    """Give each example another shape."""
    sizes = filled(shape, prod(x.shape[1:])) if x.ndim else None
    if sizes is None:
        expected = f"x with a batch axis and examples to reshape to {shape}"
        raise core.unexpected("reshape", expected, x.shape)
    y = x.reshape(x.shape[0], *sizes)
    return y, stand_ins(x, y)


def backward(params: tuple[()], cache: StandIns, g: Moved) -> tuple[Elements, tuple[()]]:
    """Compute dx = g in x's shape."""
    return g.reshape(cache.x.shape), ()


@core.constructor(kind="moving")
def reshape(*shape: OpenSize) -> Layer:
    """Give each example another shape; y is a view of x where x's memory layout allows it.

    Args:
        *shape: of one example; one size may be -1, and is then computed.

    Example:
        >>> reshape(3, -1).predict((), torch.zeros(5, 2, 6)).shape
        torch.Size([5, 3, 4])
    """
    require(shape.count(-1) < 2, "reshape", "shape with at most one -1", shape)
    return bare(Layer, forward, backward)
