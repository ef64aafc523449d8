"""Fixed positions: y = x + P, with waves of different lengths along a sequence.

P has at position t, in each pair (2 i, 2 i + 1) of the n features,

    P_t,2i = sin(t / 10000^(2 i / n)),    P_t,2i+1 = cos(t / 10000^(2 i / n))

(Vaswani et al., "Attention Is All You Need", 2017, section 3.5).

Derivation. P does not depend on x: dx = g. Cache: a zero in the shape of x, which takes no memory.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.shapes import LayerError, check_cotangent, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*batch length features"]
) -> tuple[Float[Tensor, "*batch length features"], Float[Tensor, "*batch length features"]]:
    """Compute y = x + P.

    Args:
        params: ().
        x: sequences of shape (..., length, features).

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor of that shape, or params are another layer's.

    Example:
        >>> forward((), torch.zeros(2, 2))[0]
        tensor([[0.0000, 1.0000],
                [0.8415, 0.5403]])
    """
    check_input("sinusoidal_positions", params, x)
    if x.ndim < 2:
        problem = f"expected x of shape (..., length, features), got {tuple(x.shape)}"
        raise LayerError("sinusoidal_positions", problem)
    return x + _positions(x.shape[-2], x.shape[-1], x.device).to(x.dtype), x.new_zeros(()).expand(
        x.shape
    )


def backward(
    params: tuple[()],
    cache: Float[Tensor, "*batch length features"],
    g: Float[Tensor, "*batch length features"],
) -> tuple[Float[Tensor, "*batch length features"], tuple[()]]:
    """Compute dx = g.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx, which is g itself, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))[0]
        tensor([[3., 4.]])
    """
    check_cotangent("sinusoidal_positions", g, cache)
    return g, ()


def _positions(length: int, features: int, device: torch.device) -> Tensor:
    # In float64, for float32 would leave a phase of 1e4 with three digits after the point.
    position = torch.arange(length, dtype=torch.float64, device=device).unsqueeze(1)
    even = torch.arange(0, features, 2, dtype=torch.float64, device=device)
    phase = position / 10000 ** (even / features)
    return torch.stack([phase.sin(), phase.cos()], -1).flatten(1)[:, :features]
