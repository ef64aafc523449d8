"""Flatten: neighbouring axes become one, element by element in the same order.

Derivation. y holds the elements of x under other positions, so each dy_j/dx_i is 1 for the same
element, else 0, and dx is g in x's shape. Cache: stand-ins for x and y.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers._stand_in import StandIns, reshaped_back, stand_ins
from lincoln_fn.shapes import LayerError, check_axis, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, start_dim: int = 1, end_dim: int = -1
) -> tuple[Float[Tensor, "*flat"], StandIns]:
    """Join the axes from start_dim to end_dim.

    Args:
        params: ().
        x: of any shape that has these axes.
        start_dim: the first axis to join.
        end_dim: the last.

    Returns:
        y, a view of x where x's memory order allows; and the cache.

    Raises:
        LayerError: if x is not a floating tensor or has no such axes in this order, or params are
            another layer's.

    Example:
        >>> forward((), torch.zeros(5, 2, 3))[0].shape
        torch.Size([5, 6])
    """
    check_input("flatten", params, x)
    check_axis("flatten", x, start_dim)
    check_axis("flatten", x, end_dim)
    if start_dim % x.ndim > end_dim % x.ndim:
        problem = f"expected start_dim={start_dim} at or before end_dim={end_dim}"
        raise LayerError("flatten", f"{problem}, got shape {tuple(x.shape)}")
    y = x.flatten(start_dim, end_dim)
    return y, stand_ins(x, y)


def backward(
    params: tuple[()], cache: StandIns, g: Float[Tensor, "*flat"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
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
        >>> _, cache = forward((), torch.zeros(1, 2, 2))
        >>> backward((), cache, torch.tensor([[1.0, 2.0, 3.0, 4.0]]))[0]
        tensor([[[1., 2.],
                 [3., 4.]]])
    """
    return reshaped_back("flatten", cache, g), ()
