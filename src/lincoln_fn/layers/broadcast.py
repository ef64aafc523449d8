"""Broadcasting: y has x's elements again and again, along axes that x lacks or has with size 1.

Derivation. Each element of y is one element of x. With the set R(i) of the positions in y that
repeat x_i,

    y_r = x_i    for every r in R(i)
    dx_i = sum_(r in R(i)) g_r

so dx is g, summed over the repeated axes.

Cache: the shapes of x and y.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Moved, OpenSize, Several, bare, unexpected
from lincoln_fn.layers.common.inputs import check_inputs

Shape: TypeAlias = tuple[int, ...]


@core.record
class Cache:
    shapes: tuple[Shape, ...] = core.static()
    y: core.Like = core.static()


def summed_to(g: Moved, shape: Shape) -> Elements:
    """Sum g over the axes along which a tensor of this shape was repeated."""
    new = g.ndim - len(shape)
    repeated = [i for i, n in enumerate(g.shape) if i < new or shape[i - new] != n]
    return g.sum(repeated, keepdim=True).reshape(shape) if repeated else g


def forward(params: tuple[()], x: Several) -> tuple[tuple[Moved, ...], Cache]:
    """Repeat the elements of all inputs to their common shape."""
    check_inputs("broadcast_tensors", x)
    y = repeated("broadcast_tensors", x)
    return y, Cache(tuple(tuple(x_i.shape) for x_i in x), core.Like.of(y[0]))


core.declare(forward, kind="moving")


def backward(params: tuple[()], cache: Cache, g: tuple[Moved, ...]) -> tuple[Several, tuple[()]]:
    """Compute dx_i = sum of g_r over the copies of x_i."""
    if type(g) is not tuple or len(g) != len(cache.shapes):
        expected = f"g to be a tuple of {len(cache.shapes)} tensors"
        raise unexpected("broadcast_tensors", expected, core.describe_non_tuple(g))
    for g_i in g:
        core.check_cotangent("broadcast_tensors", g_i, cache.y)
    return tuple(map(summed_to, g, cache.shapes)), ()


def repeated(layer: str, x: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Repeat tensors to the shape that they have in common."""
    shape = common_shape(layer, tuple(tuple(x_i.shape) for x_i in x))
    return tuple(x_i.expand(shape) for x_i in x)


def common_shape(layer: str, shapes: tuple[Shape, ...]) -> Shape:
    """Find the shape to which all are repeated."""
    if len(set(shapes)) == 1:
        return shapes[0]
    try:
        return tuple(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]  # torch's own
    except RuntimeError:
        shown = ", ".join(map(str, shapes))
        raise unexpected(layer, "shapes that fit together, from the last axis", shown) from None


@core.constructor
def broadcast_tensors() -> Layer:
    """Repeat the elements of several inputs until all have one shape, as `torch.broadcast_tensors`.

    x is a tuple of tensors, aligned at their last axes; where sizes differ, all but one are 1. y is
    a tuple of as many tensors. It comes before `add`, `subtract` or `multiply` of unlike shapes.

    Example:
        >>> x = torch.zeros(2, 3), torch.tensor([1.0, 2.0, 3.0])
        >>> lf.serial(broadcast_tensors(), lf.add()).predict(((), ()), x)
        tensor([[1., 2., 3.],
                [1., 2., 3.]])
    """
    return bare(Layer, forward, backward)


def forward_to(params: tuple[()], x: Elements, *, sizes: Shape) -> tuple[Moved, Cache]:
    """Repeat the elements of x to a shape."""
    try:
        y = x.expand(sizes)
    except RuntimeError:
        raise core.unexpected("broadcast_to", f"x of a shape that fits {sizes}", x.shape) from None
    return y, Cache((tuple(x.shape),), core.Like.of(y))


core.declare(forward_to, kind="moving")


def backward_to(params: tuple[()], cache: Cache, g: Moved) -> tuple[Elements, tuple[()]]:
    """Compute dx_i = sum of g_r over the copies of x_i."""
    return summed_to(g, cache.shapes[0]), ()


@core.constructor
def broadcast_to(*sizes: OpenSize) -> Layer:
    """Repeat x's elements until it has a shape, as `torch.broadcast_to`. y is a view of x.

    Args:
        *sizes: the shape of y, the batch included; -1 keeps x's own size. It may have more axes
            than x, at the front.

    Example:
        >>> broadcast_to(-1, 3).predict((), torch.tensor([[1.0], [2.0]]))
        tensor([[1., 1., 1.],
                [2., 2., 2.]])
    """
    core.require(len(sizes) > 0, "broadcast_to", "at least one of sizes", sizes)
    return bare(Layer, forward_to, backward_to)
