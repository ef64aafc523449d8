"""Router z-loss of a mixture of experts: small logits, by the square of their logarithmic sum.

Derivation. With l_n = log sum_i e^(z_(n i)), whose derivative is softmax, and m_n the part of token
n in the mean,

    L = sum_n m_n l_n^2
    dz_(n i) = 2 m_n l_n p_(n i) g    with p_n = softmax(z_n)

Cache: z, m and l.

Source: Zoph and others, "ST-MoE: Designing Stable and Transferable Sparse Expert Models", 2022,
equation 5.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, check_cache, record
from lincoln_fn.losses.common.reduction import Cotangent
from lincoln_fn.losses.common.router_logits import Tokens, read
from lincoln_fn.losses.loss import Loss


@record
class Cache:
    """The tokens, and the logarithm l of each one's sum."""

    tokens: Tokens
    log_sum: Float[Tensor, "tokens 1"]


def forward(prediction: Arrays, target: Tensor | None) -> tuple[Tensor, Cache]:
    """Compute L = sum_n m_n l_n^2."""
    tokens = read("router_z", prediction, target)
    log_sum = tokens.z.logsumexp(-1, keepdim=True)
    return (tokens.m * log_sum.squeeze(-1).square()).sum(), Cache(tokens, log_sum)


def backward(cache: Cache, g: Cotangent = 1.0) -> Arrays:
    """Compute dz_ni = 2 m_n l_n p_ni g."""
    check_cache("router_z", cache, Cache)
    tokens, log_sum = cache.tokens, cache.log_sum
    dz = 2 * tokens.m.unsqueeze(-1) * log_sum * tokens.z.softmax(-1) * g
    return tokens.divided(dz)


def router_z() -> Loss:
    """Make the loss that keeps the logits of a router small: the mean of (log sum_i e^(z_i))^2.

    Large logits round, and a rounded choice of experts jumps from step to step. ST-MoE adds the
    loss to its own with a weight of 0.001.

    Returns:
        The loss, on the router's logits (..., experts), or a tuple with those of several routers,
        as `lf.tapped(net, "*.router")` returns them. The target is None, or a mask of the tokens
        (...), False for those that do not count.

    Source:
        Zoph and others, "ST-MoE: Designing Stable and Transferable Sparse Expert Models", 2022.

    Example:
        >>> value, _ = router_z().forward(torch.zeros(3, 2), None)
        >>> value
        tensor(0.4805)
    """
    return Loss("router_z()", forward, backward)
