"""Permute: the axes of x in another order.

Derivation. Axis k of y is axis d_k of x, so y has x's elements under other positions:

    y_(i_(d_0), i_(d_1), ...) = x_(i_0, i_1, ...)
    dx_(i_0, i_1, ...) = g_(i_(d_0), i_(d_1), ...)

Axis d_k of dx is axis k of g, which is the inverse permutation.

Cache: zeros in the shapes of x and y, which take no memory, and the order d.
"""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.arguments import checked, require
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.layers._stand_in import StandIns, stand_ins
from lincoln_fn.record import record, static
from lincoln_fn.shapes import LayerError, check_cache, check_cotangent, check_input


@record
class Cache:
    """The shapes, and which axis of x each of y's is."""

    shapes: StandIns
    dims: tuple[int, ...] = static()


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, dims: tuple[int, ...]
) -> tuple[Float[Tensor, "*permuted"], Cache]:
    """Put axis dims[k] of x at place k, for every k."""
    check_input("permute", params, x)
    if sorted(dim + x.ndim if dim < 0 else dim for dim in dims) != list(range(x.ndim)):
        problem = f"expected x whose axes are {dims}, each once"
        raise LayerError("permute", f"{problem}, got shape {tuple(x.shape)}")
    y = x.permute(dims)
    return y, Cache(stand_ins(x, y), dims)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*permuted"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx, whose axis dims[k] is g's axis k."""
    check_cache("permute", cache, Cache)
    check_cotangent("permute", g, cache.shapes.y)
    inverse = sorted(range(g.ndim), key=lambda k: cache.dims[k] % g.ndim)
    return g.permute(inverse), ()


@checked
def permute(*dims: int) -> Layer:
    """Put axes, the batch among them, in another order.

    y is a view of x.

    Args:
        *dims: which axis of x each axis of y is, counted from the end if it is negative.

    Returns:
        The layer, without parameters.

    Raises:
        LayerError: from its functions, if x is not a floating tensor of that many axes.

    Example:
        >>> permute(0, 2, 3, 1)
        permute(0, 2, 3, 1)
        >>> permute(0, 2, 1).predict((), torch.zeros(5, 2, 3)).shape
        torch.Size([5, 3, 2])
    """
    axes = range(len(dims))
    each_once = sorted(dim + len(dims) if dim < 0 else dim for dim in dims) == list(axes)
    require(each_once, "permute", f"dims of {len(dims)} axes, each once", dims)
    return Layer(call_repr("permute", *dims), partial(forward, dims=dims), backward)
