"""The heads of multi-head attention, between its dense layers.

Derivation. `split` cuts the features into heads, (..., length, heads features) into (..., heads,
length, features). Each head computes its own attention, and `merge` joins the heads again:

    q = scale split(query)    scale = 1 / sqrt(features of a head)
    k = split(key)
    v = split(value)
    weights = softmax(q k^T + mask)
    kept = weights drop / (1 - p)    with dropout, else kept = weights
    y = merge(kept v)

`split` and `merge` only move elements, so each is the other's derivative. With dy = split(g), and
by the rules of dropout and of attention (`dropout`, `scaled_dot_product_attention`),

    dv = kept^T dy
    dweights = dy v^T drop / (1 - p)
    dscores_(ij) = weights_(ij) (dweights_(ij) - sum_n dweights_(i n) weights_(i n))
    dquery = scale merge(dscores k)
    dkey = merge(dscores^T q)
    dvalue = merge(dv)

Cache: q, k and v. The weights, whose number grows with the square of the length, are computed
again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core.declaration import declare
from lincoln_fn.core.layer import Layer, unchanged
from lincoln_fn.core.record import record, static
from lincoln_fn.errors.shapes import check_cache, check_cotangent
from lincoln_fn.layers import dropout
from lincoln_fn.layers.common.attention import (
    Mask,
    Sequence,
    SoftmaxBackward,
    mask_grad,
    softmax_backward,
    weights_of,
)

Heads: TypeAlias = Float[Tensor, "*batch heads length features"]
Inputs: TypeAlias = tuple[Sequence, Sequence, Sequence, Mask | None]
# (sequence, num_heads) -> heads; `split_heads`, or a faster function in its place.
Split: TypeAlias = Callable[[Sequence, int], Heads]
# (params, weights, p=p) -> (kept, cache); `dropout.forward`, or one for some of the heads.
Drop: TypeAlias = Callable[..., tuple[Tensor, dropout.Cache]]


@record
class Cache:
    """q, k and v by head, the mask, and the dropout mask of the weights."""

    q: Heads
    k: Heads
    v: Heads
    mask: Mask | None
    dropped: dropout.Cache | None
    is_causal: bool = static()


def split_heads(x: Sequence, num_heads: int) -> Heads:
    """Cut (..., length, heads features) into (..., heads, length, features)."""
    by_place = x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)
    return by_place.transpose(-3, -2)


def forward(
    params: dropout.Params | None,
    x: Inputs,
    *,
    num_heads: int,
    p: float,
    is_causal: bool,
    split: Split = split_heads,
    drop: Drop = dropout.forward,
) -> tuple[Sequence, Cache]:
    """Compute y = merge(kept v)."""
    query, key, value, mask = x
    q = split(query, num_heads) * scale_of(query, num_heads)
    k = split(key, num_heads)
    v = split(value, num_heads)
    kept, dropped = weights_of(q, k, mask, is_causal), None
    if params is not None:
        kept, dropped = drop(params, kept, p=p)
    return merge_heads(kept @ v), Cache(q, k, v, mask, dropped, is_causal)


def backward(
    params: dropout.Params | None,
    cache: Cache,
    g: Sequence,
    *,
    split: Split = split_heads,
    softmax_backward: SoftmaxBackward = softmax_backward,
) -> tuple[tuple[Sequence, Sequence, Sequence, Tensor | None], dropout.Params | None]:
    """Compute dquery, dkey, dvalue and dmask, the last None unless the mask is floating."""
    check_cache("attention_heads", cache, Cache)
    q, k, v = cache.q, cache.k, cache.v
    num_heads = q.shape[-3]
    features = num_heads * q.shape[-1]
    check_cotangent("attention_heads", g, q, (*q.shape[:-3], q.shape[-2], features))
    dy = split(g, num_heads)
    weights = weights_of(q, k, cache.mask, cache.is_causal)
    kept, dweights = weights, dy @ v.mT
    if params is not None and cache.dropped is not None:
        # Dropout is a product with drop / (1 - p), which is its own derivative.
        kept, _ = dropout.backward(params, cache.dropped, weights)
        dweights, _ = dropout.backward(params, cache.dropped, dweights)
    dv = kept.mT @ dy
    dscores = softmax_backward(dweights, weights)
    dquery = merge_heads(dscores @ k * scale_of(g, num_heads))
    dkey = merge_heads(dscores.mT @ q)
    return (dquery, dkey, merge_heads(dv), mask_grad(dscores, cache.mask)), params


def predict(
    params: dropout.Params | None, x: Inputs, *, num_heads: int, p: float, is_causal: bool
) -> Sequence:
    """Compute y with all weights kept."""
    return forward(None, x, num_heads=num_heads, p=p, is_causal=is_causal)[0]


def inference_forward(
    params: dropout.Params | None, x: Inputs, *, num_heads: int, p: float, is_causal: bool
) -> tuple[Sequence, Cache]:
    """Compute y with all weights kept, and the cache of its gradient."""
    return forward(None, x, num_heads=num_heads, p=p, is_causal=is_causal)


declare(forward, inference_forward, kind="attention")
declare(predict, kind="attention", at_inference=(inference_forward, backward))


def advance(params: dropout.Params | None, cache: object) -> dropout.Params | None:
    """Return the next key of the weights' dropout, if there is any."""
    return None if params is None else dropout.Params(params.key.fold_in(0))


declare(advance, reads=())


def attention_heads(num_heads: int, *, p: float = 0.0, is_causal: bool = False) -> Layer:
    """Make the layer, from (query, key, value, mask) to the heads' outputs side by side."""
    return Layer(
        f"attention_heads({num_heads})",
        partial(forward, num_heads=num_heads, p=p, is_causal=is_causal),
        backward,
        predict=partial(predict, num_heads=num_heads, p=p, is_causal=is_causal),
        advance=advance if p else unchanged,
    )


def merge_heads(x: Heads) -> Sequence:
    """Put (..., heads, length, features) side by side again, as (..., length, heads features)."""
    return x.transpose(-3, -2).flatten(-2)


def scale_of(x: Sequence, num_heads: int) -> float:
    """Compute the factor of the scores."""
    return 1 / math.sqrt(x.shape[-1] // num_heads)
