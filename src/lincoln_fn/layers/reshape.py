"""Reshape: each example gets another shape, element by element in the same order.

Derivation. y holds the elements of x under other positions, so each dy_j/dx_i is 1 for the same
element, else 0, and dx is g in x's shape. Cache: stand-ins for x and y.
"""

from __future__ import annotations

from math import prod

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers._stand_in import StandIns, filled, reshaped_back, stand_ins
from lincoln_fn.shapes import LayerError, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*s_in"], *, shape: tuple[int, ...]
) -> tuple[Float[Tensor, "*s_out"], StandIns]:
    """Give each example another shape.

    Args:
        params: ().
        x: of shape (batch, ...).
        shape: of one example of y; one size may be -1, which is then found.

    Returns:
        y of shape (batch, *shape), a view of x where x's memory order allows; and the cache.

    Raises:
        LayerError: if x is not a floating tensor whose examples have as many elements, or params
            are another layer's.

    Example:
        >>> forward((), torch.zeros(5, 2, 6), shape=(3, -1))[0].shape
        torch.Size([5, 3, 4])
    """
    check_input("reshape", params, x)
    sizes = filled(shape, prod(x.shape[1:])) if x.ndim else None
    if sizes is None:
        problem = f"expected x with a batch axis and examples to reshape to {shape}"
        raise LayerError("reshape", f"{problem}, got {tuple(x.shape)}")
    y = x.reshape(x.shape[0], *sizes)
    return y, stand_ins(x, y)


def backward(
    params: tuple[()], cache: StandIns, g: Float[Tensor, "*s_out"]
) -> tuple[Float[Tensor, "*s_in"], tuple[()]]:
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
        >>> _, cache = forward((), torch.zeros(1, 4), shape=(2, 2))
        >>> backward((), cache, torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))[0]
        tensor([[1., 2., 3., 4.]])
    """
    return reshaped_back("reshape", cache, g), ()
