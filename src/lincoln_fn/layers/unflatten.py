"""Unflatten: one axis becomes several, element by element in the same order.

Derivation. y holds the elements of x under other positions, so each dy_j/dx_i is 1 for the same
element, else 0, and dx is g in x's shape. Cache: stand-ins for x and y.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers._stand_in import StandIns, filled, reshaped_back, stand_ins
from lincoln_fn.shapes import LayerError, check_axis, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*flat"], *, dim: int, unflattened_size: tuple[int, ...]
) -> tuple[Float[Tensor, "*s"], StandIns]:
    """Split axis dim into several.

    Args:
        params: ().
        x: of any shape that has this axis.
        dim: the axis.
        unflattened_size: what it is split into; one size may be -1, which is then found.

    Returns:
        y, a view of x; and the cache.

    Raises:
        LayerError: if x is not a floating tensor or has no such axis, or one of another size, or
            params are another layer's.

    Example:
        >>> forward((), torch.zeros(5, 6), dim=1, unflattened_size=(2, -1))[0].shape
        torch.Size([5, 2, 3])
    """
    check_input("unflatten", params, x)
    check_axis("unflatten", x, dim)
    sizes = filled(unflattened_size, x.shape[dim])
    if sizes is None:
        problem = f"expected x with an axis dim={dim} to split into {unflattened_size}"
        raise LayerError("unflatten", f"{problem}, got shape {tuple(x.shape)}")
    y = torch.unflatten(x, dim, sizes)
    return y, stand_ins(x, y)


def backward(
    params: tuple[()], cache: StandIns, g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*flat"], tuple[()]]:
    """Compute dx = g in x's shape.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, a view of g where its memory order allows; and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> _, cache = forward((), torch.zeros(4), dim=0, unflattened_size=(2, 2))
        >>> backward((), cache, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))[0]
        tensor([1., 2., 3., 4.])
    """
    return reshaped_back("unflatten", cache, g), ()
