"""Attention by ATen's flash kernel, which keeps no weights and computes them block by block.

In an eager step of gpt-pico, the heads take half of the time that they take with the formula, and
the step 0.87. The kernel is for a batch of sequences on the CPU without a mask and without dropout.
Its backward pass has no derivative, so autograd and torch.func get the formula.

A compiled step gets the formula, too. In a small network, Inductor's code for it is faster than the
kernel, if the heads are contiguous, and the backward pass of softmax is ATen's. Without these two,
a step of gpt-pico takes 1.4 of the time.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core.record import record, static
from lincoln_fn.errors.shapes import check_cotangent
from lincoln_fn.fastpath.plain import is_traced
from lincoln_fn.fastpath.twin import Twin, unless_transformed
from lincoln_fn.layers import dropout, scaled_dot_product_attention
from lincoln_fn.layers.common import attention_heads
from lincoln_fn.layers.common.attention import Sequence

aten = torch.ops.aten


@record
class KernelCache:
    """q, k, v and y by head, and the logarithm of the sum of each query's e^scores."""

    q: attention_heads.Heads
    k: attention_heads.Heads
    v: attention_heads.Heads
    y: attention_heads.Heads
    logsumexp: Float[Tensor, "batch heads length"]
    is_causal: bool = static()


def _copy_heads(x: Sequence, num_heads: int) -> attention_heads.Heads:
    return attention_heads.split_heads(x, num_heads).contiguous()


def _softmax_backward(dweights: Tensor, weights: Tensor) -> Tensor:
    dscores: Tensor = aten._softmax_backward_data(dweights, weights, -1, weights.dtype)
    return dscores


_backward_by_formula: Final = partial(
    attention_heads.backward, split=_copy_heads, softmax_backward=_softmax_backward
)


@unless_transformed(attention_heads.forward)
def forward(
    params: dropout.Params | None,
    x: attention_heads.Inputs,
    *,
    num_heads: int,
    p: float,
    is_causal: bool,
) -> tuple[Sequence, KernelCache | attention_heads.Cache]:
    """Compute y = merge(kept v)."""
    query, key, value, mask = x
    if params is not None or mask is not None or not _supports(query, key, value):
        return attention_heads.forward(
            params, x, num_heads=num_heads, p=p, is_causal=is_causal, split=_copy_heads
        )
    q, k, v = (attention_heads.split_heads(part, num_heads) for part in (query, key, value))
    y, logsumexp = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, is_causal)
    return attention_heads.merge_heads(y), KernelCache(q, k, v, y, logsumexp, is_causal)


def _remade(
    params: dropout.Params | None, cache: KernelCache, g: Sequence
) -> attention_heads.Cache:
    query, key, value = map(attention_heads.merge_heads, (cache.q, cache.k, cache.v))
    x, num_heads = (query, key, value, None), cache.q.shape[-3]
    return attention_heads.forward(
        params, x, num_heads=num_heads, p=0.0, is_causal=cache.is_causal
    )[1]


@unless_transformed(_backward_by_formula, KernelCache, _remade)
def backward(
    params: dropout.Params | None, cache: KernelCache, g: Sequence
) -> tuple[tuple[Sequence, Sequence, Sequence, None], dropout.Params | None]:
    """Compute dquery, dkey and dvalue."""
    q = cache.q
    batch, num_heads, length, features = q.shape
    check_cotangent("attention_heads", g, q, (batch, length, num_heads * features))
    gradients = aten._scaled_dot_product_flash_attention_for_cpu_backward(
        attention_heads.split_heads(g, num_heads), q, cache.k, cache.v, cache.y, cache.logsumexp,
        0.0, cache.is_causal,
    )  # fmt: skip
    dquery, dkey, dvalue = map(attention_heads.merge_heads, gradients)
    return (dquery, dkey, dvalue, None), params


def _supports(query: Sequence, key: Sequence, value: Sequence) -> bool:
    is_batch = query.ndim == 3 and query.device.type == "cpu"
    return is_batch and query.numel() > 0 < key.numel() and not is_traced(query)


TWINS: Final = (
    Twin(attention_heads, forward=forward, backward=backward),
    Twin(
        scaled_dot_product_attention,
        backward=partial(scaled_dot_product_attention.backward, softmax_backward=_softmax_backward),
    ),
)
