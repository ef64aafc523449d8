"""Load-balancing loss of a mixture of experts, on the logits z of its router.

Derivation. With p_n = softmax(z_n) and S_n the k experts of token n, and m_n its part in the mean
over tokens, the share of expert i in the choices and in the probabilities is

    f_i = sum_n m_n [i in S_n]
    q_i = sum_n m_n p_(n i)
    L = E sum_i f_i q_i    with E the number of experts

L is k if all experts have equal shares, and E if the same experts have all. The choice S is
constant, so f has no gradient:

    dp_(n i) = E f_i m_n g
    dz_n = p_n (dp_n - sum_j p_(n j) dp_(n j))    as `softmax` derives it

Cache: z, m, p and f. Source: Fedus et al., "Switch Transformers", 2021, equations 4 to 6.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, PositiveInt, bare, check_cache, constructor, record, unexpected
from lincoln_fn.losses.internal import Cotangent, Loss
from lincoln_fn.losses.router_z import Logits, Tokens, read


@record
class Cache:
    """The tokens, their probabilities p, and the experts' shares f of the choices."""

    tokens: Tokens
    p: Logits
    f: Float[Tensor, " experts"]


def forward(prediction: Arrays, target: Tensor | None, *, top_k: int) -> tuple[Tensor, Cache]:
    """Compute L = E sum_i f_i q_i."""
    tokens = read("router_balance", prediction, target)
    z, m = tokens.z, tokens.m.unsqueeze(-1)
    n_experts = z.shape[-1]
    if top_k > n_experts:
        raise unexpected("router_balance", f"logits of at least {top_k} experts, top_k", n_experts)
    p = z.softmax(-1)
    f = (m * torch.zeros_like(z).scatter(-1, z.topk(top_k, -1).indices, 1.0)).sum(0)
    return n_experts * (f * (m * p).sum(0)).sum(), Cache(tokens, p, f)


def backward(cache: Cache, g: Cotangent = 1.0) -> Arrays:
    """Compute dz_n = p_n (dp_n - sum_j p_nj dp_nj) with dp_ni = E f_i m_n g."""
    check_cache("router_balance", cache, Cache)
    p, f, m = cache.p, cache.f, cache.tokens.m.unsqueeze(-1)
    dp = len(f) * f * m * g
    return cache.tokens.divided(p * (dp - (p * dp).sum(-1, keepdim=True)))


@constructor
def router_balance(top_k: PositiveInt = 2) -> Loss:
    """Make the loss that keeps the load of the experts of a mixture equal.

    It is E sum_i f_i q_i, with f_i the share of the tokens that choose expert i, q_i the mean of
    its probability, and E the number of experts. It is at least `top_k`, the experts of a token, if
    all have equal shares. Mixtral adds it to its own loss with a weight of 0.001 to 0.02. The
    prediction are the router's logits (..., experts), or a tuple with those of several routers, as
    `lf.tapped(net, "*.router")` returns them; the shares are those among the tokens of all. The
    target is None, or a mask of the tokens (...), False for those that do not count.

    Example:
        >>> router_balance(top_k=1).forward(torch.eye(4), None)[0]
        tensor(1.)
    """
    return bare(Loss, forward, backward, mixes_examples=True)
