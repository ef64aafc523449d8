"""Loss of the angle between vectors x_1 and x_2: small if y = 1, wide if y = -1.

Derivation. c is the cosine of the angle; 10^(-12) avoids a division by zero for a vector of zeros:

    q_1 = x_1^T x_1 + 10^(-12)
    q_2 = x_2^T x_2 + 10^(-12)
    c = (x_1^T x_2) / sqrt(q_1 q_2)
    l = {(1 - c, if y = 1), (max(0, c - margin), if y = -1):}
    dc = {(-dl, if y = 1), (dl, if y = -1 and c >= margin), (0, otherwise):}

The gradient of q_1 is 2 x_1, so the gradient of the factor q_1^(-1/2) of c is -q_1^(-3/2) x_1, and

    dx_1 = dc (x_2 / sqrt(q_1 q_2) - c / q_1 x_1)
    dx_2 = dc (x_1 / sqrt(q_1 q_2) - c / q_2 x_2)

At c = margin, max(0, c - margin) has slope 1. Half precision is converted to float32: float16 would
round 10^(-12) to 0, and the square of a length above 256 to infinity.

Cache: x_1, x_2, y, q_1, q_2 and c.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import constructor
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.losses.internal import Cotangent, Tensors, check_vector, make_loss, signs
from lincoln_fn.losses.loss import Loss, Reduction

TINY: Final = 1e-12
Pair = tuple[Float[Tensor, "*n D"], Float[Tensor, "*n D"]]


def forward(x: Pair, target: Tensor, *, margin: float) -> tuple[Float[Tensor, "*n"], Tensors]:
    """Compute l = 1 - c where y = 1, and max(0, c - margin) where y = -1."""
    x1, x2 = x
    check_vector("cosine_embedding", "x1", x1)
    y = signs("cosine_embedding", target, x1, tuple(x1.shape[:-1]))
    dtype, x1, x2 = x1.dtype, widened(x1), widened(x2)
    q1, q2 = (x1 * x1).sum(-1) + TINY, (x2 * x2).sum(-1) + TINY
    c = (x1 * x2).sum(-1) / torch.sqrt(q1 * q2)
    value = torch.where(y > 0, 1 - c, (c - margin).clamp(min=0))
    return value.to(dtype), (x1, x2, y, q1, q2, c)


def backward(cache: Tensors, dl: Cotangent, *, margin: float) -> Pair:
    """Compute dx1 = dc (x2 / sqrt(q1 q2) - c / q1 x1), and dx2 likewise."""
    x1, x2, y, q1, q2, c = cache
    dc = -y * ((y > 0) | (c >= margin)) * dl
    across = (dc / torch.sqrt(q1 * q2)).unsqueeze(-1)
    dx1 = across * x2 - (dc * c / q1).unsqueeze(-1) * x1
    dx2 = across * x1 - (dc * c / q2).unsqueeze(-1) * x2
    return dx1.to(y.dtype), dx2.to(y.dtype)


@constructor
def cosine_embedding(*, margin: float = 0.0, reduction: Reduction = "mean") -> Loss:
    """Make the loss of the angle between x1 and x2: small where y = 1, wide where y = -1.

    l = 1 - c where y = 1, and max(0, c - margin) where y = -1, with c the cosine of the angle. x1
    and x2 have one shape (..., D), and the labels y, 1 or -1, shape (...).

    Args:
        reduction: "mean" over the pairs, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.cosine_embedding()
        >>> x = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])
        >>> value, cache = loss.forward(x, torch.tensor([1]))
        >>> value, loss.backward(cache)[0]
        (tensor(0.4000), tensor([[ 0.0000, -0.8000]]))
    """
    return make_loss(forward, backward, inputs=("x1", "x2"), like={"x2": "x1"})
