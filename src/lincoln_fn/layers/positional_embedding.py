"""Learned positions: y = x + W, with one row of W for each position of a sequence.

Derivation. For one sequence, y_tj = x_tj + W_tj for t < length, so

    dL/dx_tj = g_tj                          dx = g
    dL/dW_tj = g_tj for t < length, else 0   dW = g, which sums over the sequences

where every axis of x but the last two counts sequences. Cache: a zero in the shape of x, which
takes no memory.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.initializers import Fans, Initializer
from lincoln_fn.keys import Key
from lincoln_fn.record import record
from lincoln_fn.shapes import LayerError, check_cotangent, check_input, check_like, check_params


@record
class Params:
    """What is added at each position."""

    weight: Float[Tensor, "max_len features"]


def init(
    key: Key,
    x: Float[Tensor, "*batch length features"],
    *,
    max_len: int,
    weight_init: Initializer,
) -> Params:
    """Make parameters for inputs like x.

    Args:
        key: what the initial values are drawn from.
        x: an example input, of which only shape, dtype and device count.
        max_len: the greatest length.
        weight_init: draws the weight.

    Returns:
        The parameters, in x's dtype and on its device.

    Raises:
        LayerError: if x is not a floating tensor of shape (..., length, features) with length at
            most max_len.
    """
    check_input("positional_embedding", (), x)
    _check_shape(max_len, None, x)
    shape = (max_len, x.shape[-1])
    return Params(weight_init.draw(key.near(x), shape, Fans(*shape), x.dtype))


def forward(
    params: Params, x: Float[Tensor, "*batch length features"]
) -> tuple[Float[Tensor, "*batch length features"], Float[Tensor, "*batch length features"]]:
    """Compute y = x + the first rows of W.

    Args:
        params: the table of positions.
        x: sequences of shape (..., length, features), length at most max_len.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor of that shape with the weight's dtype and device,
            or params are another layer's.

    Example:
        >>> params = Params(torch.tensor([[1.0], [2.0], [3.0]]))
        >>> forward(params, torch.tensor([[10.0], [10.0]]))[0]
        tensor([[11.],
                [12.]])
    """
    check_input("positional_embedding", params, x, Params)
    check_like("positional_embedding", "x", x, params.weight)
    max_len, features = params.weight.shape
    _check_shape(max_len, features, x)
    return x + params.weight[: x.shape[-2]], x.new_zeros(()).expand(x.shape)


def backward(
    params: Params,
    cache: Float[Tensor, "*batch length features"],
    g: Float[Tensor, "*batch length features"],
) -> tuple[Float[Tensor, "*batch length features"], Params]:
    """Compute dx = g, and dW = sum of g over the sequences, with zeros past their length.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx, which is g itself, and dparams.

    Raises:
        LayerError: if g does not mirror y, or params or the cache are another layer's.

    Example:
        >>> params, g = Params(torch.zeros(2, 1)), torch.tensor([[[1.0]], [[2.0]]])
        >>> backward(params, torch.zeros(2, 1, 1), g)[1].weight
        tensor([[3.],
                [0.]])
    """
    check_params("positional_embedding", params, Params)
    check_cotangent("positional_embedding", g, cache)
    length, features = g.shape[-2:]
    dweight = g.reshape(-1, length, features).sum(0)
    missing = len(params.weight) - length
    return g, Params(torch.nn.functional.pad(dweight, (0, 0, 0, missing)))


def _check_shape(max_len: int, features: int | None, x: Tensor) -> None:
    if x.ndim < 2 or x.shape[-1] != (features or x.shape[-1]) or x.shape[-2] > max_len:
        wanted = f"(..., length, {features or 'features'}) with length at most {max_len}"
        raise LayerError(
            f"positional_embedding({max_len})",
            f"expected x of shape {wanted}, got {tuple(x.shape)}",
        )
