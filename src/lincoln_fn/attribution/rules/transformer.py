"""Relevance through attention, and through normalisations.

Attention is y = A v with A = softmax(S) and S = q k^T.

Derivation. A product of two matrices is a sum of products of two factors, and each factor gets half
of its term's share (`split` in `any_layer`). Softmax is linearised at S, as `norm` does it:

    s = R / (2 y)
    R_A = A (s v^T)    term by term
    R_v = v (A^T s)    term by term
    R_S = S (R_A - A sum_j R_(A j))
    R_q = q ((R_S / (2 S)) k)    term by term
    R_k = k ((R_S / (2 S))^T q)    term by term

S cancels out, and R_S / (2 S) is computed as

    t = 1/2 (R_A - A sum_j R_(A j))

With a soft cap, softmax is of Z = c tanh(S / c), whose relevance passes on to S. Then R_S / (2 S)
is t Z / S, with Z / S = 1 where S is 0.

The linearised softmax has a bias, so R_S does not sum to R_A. Where a mask forbids attention, A,
R_A and t are 0. A floating mask is added to S as a bias is, and takes its share.

If the weights A count as constants, v gets all of R, which is conserved:

    R_v = v (A^T R / y)

A normalisation's standard deviation counts as a constant.

Derivation. With rstd a constant, layer norm and RMS norm are linear in x, up to the bias, and their
backward loses the term that came from rstd:

    y = (x - mean) rstd w + b    layer norm
    dx = rstd (g w - mean(g w))

    y = x rstd w    RMS norm
    dx = rstd g w

The relevance is shared in proportion to the contributions to y: R_i = x_i dx_i with g = R / y. The
bias takes its share. `pass_`, which gives each x_i the relevance of its own y_i, is the other rule
for normalisations.

Sources: Achtibat and others, "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for
Transformers", ICML 2024, equations 9 to 14; Ali and others, "XAI for Transformers: Better
Explanations through Conservative Propagation", ICML 2022 (constant weights and deviation).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lincoln_fn.attribution.rules.any_layer import Rule, Use, share
from lincoln_fn.core import Arrays, LayerError, NonNegative, bare, constructor
from lincoln_fn.layers import attention_heads, layer_norm, rms_norm, scaled_dot_product_attention
from lincoln_fn.layers.attention_heads import grouped, merge_heads, split_heads, ungrouped
from lincoln_fn.rules.internal import constant_rstd


@constructor
def attention(stabilizer: NonNegative = 1e-6, *, constant_weights: bool = False) -> Rule:
    """Share the relevance of attention's output to query, key and value.

    It is for `scaled_dot_product_attention` and `attention_heads`.

    Args:
        constant_weights: whether the weights count as constants, so that the values get everything.
    """
    shares = partial(_shares, stabilizer=stabilizer, constant_weights=constant_weights)

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        cache = use.cache
        if isinstance(cache, attention_heads.Cache):
            return _of_heads(shares, cache, use.y, relevance)
        if not isinstance(cache, scaled_dot_product_attention.Cache):
            raise LayerError(use.layer.name, "expected a layer of attention for attention()")
        q, k, v, *masks = cache.x
        parts = shares(q * cache.scale, k, v, cache.weights, use.y, relevance)
        return (*parts, *map(_no_mask, masks))

    return bare(Rule, propagate)


def _of_heads(
    shares: Callable[..., tuple[Tensor, ...]],
    cache: attention_heads.Cache,
    y: Tensor,
    relevance: Tensor,
) -> tuple[Tensor | None, ...]:
    q, k, v = cache.q, cache.k, cache.v
    weights, _ = attention_heads.weights_and_slope(cache)
    y, r = (grouped(split_heads(t, q.shape[-3]), k) for t in (y, relevance))
    of_q, of_k, of_v = shares(grouped(q, k), k, v, grouped(weights, k), y, r, cap=cache.softcap)
    parts = (*map(merge_heads, (ungrouped(of_q, q), of_k, of_v)), _no_mask(cache.mask))
    return parts[: cache.entries]


def _shares(
    q: Tensor, k: Tensor, v: Tensor, weights: Tensor, y: Tensor, relevance: Tensor,
    *, stabilizer: float, constant_weights: bool, cap: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute R_q, R_k and R_v; constant weights give everything to the values."""
    if constant_weights:
        of_v = v * (weights.mT @ share(relevance, y, stabilizer))
        return torch.zeros_like(q), torch.zeros_like(k), of_v
    s = share(relevance, 2 * y, stabilizer)
    of_weights = weights * (s @ v.mT)
    t = (of_weights - weights * of_weights.sum(-1, keepdim=True)) / 2
    if cap is not None:
        scores = q @ k.mT
        t = t * torch.where(scores == 0, 1.0, cap * torch.tanh(scores / cap) / scores)
    return q * (t @ k), k * (t.mT @ q), v * (weights.mT @ s)


def _no_mask(mask: Tensor | None) -> Tensor | None:
    return torch.zeros_like(mask) if mask is not None and mask.is_floating_point() else None


@constructor
def constant_std(stabilizer: NonNegative = 1e-6) -> Rule:
    """Share through layer norm or RMS norm as if the standard deviation were a constant."""

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        if not isinstance(use.cache, layer_norm.Cache | rms_norm.Cache):
            raise LayerError(use.layer.name, "expected layer_norm or rms_norm for constant_std()")
        return use.x * constant_rstd(use.params, use.cache, share(relevance, use.y, stabilizer))

    return bare(Rule, propagate)
