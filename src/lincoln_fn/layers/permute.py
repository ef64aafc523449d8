"""Permute: the axes of x in another order.

Derivation. Axis k of y is axis d_k of x: y[i_d0, i_d1, ...] = x[i_0, i_1, ...]. Each element of y
is one of x, so dx holds g's elements where x's came from: axis d_k of dx is axis k of g, which is
the inverse permutation. Cache: stand-ins for x and y, and the order d.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

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
    """Put axis dims[k] of x at place k, for every k.

    Args:
        params: ().
        x: of any shape, the batch counting as an axis like the others.
        dims: every axis of x once, counted from the end if negative.

    Returns:
        y, a view of x; and the cache.

    Raises:
        LayerError: if x is not a floating tensor of that many axes, or params are another layer's.

    Example:
        >>> forward((), torch.zeros(5, 2, 3), dims=(0, 2, 1))[0].shape
        torch.Size([5, 3, 2])
    """
    check_input("permute", params, x)
    if sorted(dim + x.ndim if dim < 0 else dim for dim in dims) != list(range(x.ndim)):
        problem = f"expected x whose axes are {dims}, each once"
        raise LayerError("permute", f"{problem}, got shape {tuple(x.shape)}")
    y = x.permute(dims)
    return y, Cache(stand_ins(x, y), dims)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*permuted"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx, whose axis dims[k] is g's axis k.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, a view of g; and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> _, cache = forward((), torch.zeros(5, 2, 3), dims=(1, 2, 0))
        >>> backward((), cache, torch.zeros(2, 3, 5))[0].shape
        torch.Size([5, 2, 3])
    """
    check_cache("permute", cache, Cache)
    check_cotangent("permute", g, cache.shapes.y)
    inverse = sorted(range(g.ndim), key=lambda k: cache.dims[k] % g.ndim)
    return g.permute(inverse), ()
