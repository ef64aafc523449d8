"""The heads of attention, between its dense layers: each computes its own attention.

The features of queries, keys and values stand side by side, head after head. `split` cuts them into
heads, (..., length, heads features) into (..., heads, length, features), and `merge` joins them
again. There may be fewer heads of keys and values than of queries. Then each of them is read by
n = heads / (heads of keys) query heads, one after the other: multi-query attention (Shazeer, "Fast
Transformer Decoding: One Write-Head is All You Need", 2019) and grouped-query attention (Ainslie
and others, "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints",
2023).

    q = split(query)    k = split(key)    v = split(value)
    s_(ij) = scale sum_e q_(ie) k_(je)
    z_(ij) = c tanh(s_(ij) / c)    with a soft cap c, else z = s
    weights = softmax(z + mask)    over the keys that query i may see
    kept = weights drop / (1 - p)    with dropout, else kept = weights
    y = merge(kept v)

Of T queries and U keys, the last query is beside the last key: query i is at place i + U - T among
the keys. A causal query sees the keys up to its place, and with a window of w those less than w
places away.

Derivation. `split` and `merge` only move elements, so each is the other's derivative. With
dy = split(g), and by the rules of dropout, of attention and of tanh (`dropout`,
`scaled_dot_product_attention`, `softcap`),

    dv = sum kept^T dy    over the n query heads that read v
    dweights = dy v^T drop / (1 - p)
    dz_(ij) = weights_(ij) (dweights_(ij) - sum_m dweights_(i m) weights_(i m))
    ds = dz (1 - (z / c)^2)    with a soft cap, else ds = dz
    dq = scale ds k
    dk = sum scale ds^T q    over the n query heads that read k
    dmask = dz    summed over the axes along which the mask was broadcast

The n query heads that read one head of keys are computed as one head with n times as many queries,
so that the matrix products compute these two sums.

Cache: scale q, k and v, by head, and the mask. The weights are computed again, because their number
grows with the square of the length. Source: Vaswani and others, "Attention Is All You Need", 2017,
section 3.2.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, Like, Positive, PositiveInt, Probability, Sequence, static
from lincoln_fn.layers import dropout
from lincoln_fn.layers.common import attention
from lincoln_fn.layers.common.attention import Gradients, Inputs, Mask, SoftmaxBackward
from lincoln_fn.layers.dropout import advance

NAME = "attention_heads"

Heads: TypeAlias = Float[Tensor, "*batch heads length features"]
Weights: TypeAlias = Float[Tensor, "*batch heads length key_length"]
# The key of the weights' dropout. Without dropout it is (), and None in `multi_head_attention`.
Params: TypeAlias = dropout.Params | tuple[()] | None
# (sequence, num_heads) -> heads; `split_heads`, or a faster function in its place.
Split: TypeAlias = Callable[[Sequence, int], Heads]
# (params, weights, p=p) -> (kept, cache); `dropout.forward`, or one for some of the heads.
Drop: TypeAlias = Callable[..., tuple[Tensor, dropout.Cache]]


@core.record
class Cache:
    """q, scaled, k and v by head, the mask, the dropout of the weights, and what makes scores."""

    q: Heads
    k: Heads
    v: Heads
    mask: Mask | None
    dropped: dropout.Cache | None
    y: Like = static()
    is_causal: bool = static()
    sliding_window: int | None = static()
    softcap: float | None = static()
    scale: float = static()
    is_aligned_at_end: bool = static()
    entries: int = static()


def init(key: Key, x: Inputs) -> dropout.Params:
    """Make the key of the weights' dropout."""
    return dropout.init(key, x[0])


def split_heads(x: Sequence, num_heads: int) -> Heads:
    """Cut (..., length, heads features) into (..., heads, length, features)."""
    return x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads).transpose(-3, -2)


def merge_heads(x: Heads) -> Sequence:
    """Put (..., heads, length, features) side by side again, as (..., length, heads features)."""
    return x.transpose(-3, -2).flatten(-2)


# Any: the keywords of `by_head`.
def forward(
    params: Params, x: Inputs, *, p: float = 0.0, drop: Drop = dropout.forward, **options: Any
) -> tuple[Sequence, Cache]:
    """Compute y = merge(kept v)."""
    return attend(params, by_head(x, **options), p=p, drop=drop)


def by_head(
    x: Inputs, *, num_heads: int, num_kv_heads: int | None = None, is_causal: bool = False,
    sliding_window: int | None = None, softcap: float | None = None, scale: float | None = None,
    is_aligned_at_end: bool = True, split: Split = split_heads,
) -> Cache:  # fmt: skip
    """Compute q, not scaled yet, k and v by head."""
    num_kv_heads = num_kv_heads or num_heads
    check_forward(x, num_heads, num_kv_heads)
    query, key, value = x[:3]
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1] // num_heads)
    q, k, v = split(query, num_heads), split(key, num_kv_heads), split(value, num_kv_heads)
    mask = x[3] if len(x) == 4 else None
    features = num_heads * v.shape[-1]
    y = Like(torch.Size((*query.shape[:-1], features)), query.dtype, query.device)
    options = (is_causal, sliding_window, softcap, scale, is_aligned_at_end, len(x))
    return Cache(q, k, v, mask, None, y, *options)


def scaled(cache: Cache) -> Cache:
    """Scale the q that `by_head` has computed."""
    return core.evolve(cache, q=cache.q * cache.scale)


def attend(
    params: Params, cache: Cache, *, p: float = 0.0, drop: Drop = dropout.forward
) -> tuple[Sequence, Cache]:
    """Compute y = merge(kept v) of what `by_head` has computed, and the cache."""
    cache = scaled(cache)
    kept, _ = weights_and_slope(cache)
    if (drawn_by := key_of_dropout(params, p)) is not None:
        kept, dropped = drop(drawn_by, kept, p=p)
        cache = core.evolve(cache, dropped=dropped)
    return merge_heads(ungrouped(grouped(kept, cache.k) @ cache.v, cache.q)), cache


def backward(
    params: Params, cache: Cache, g: Sequence, *, split: Split = split_heads,
    softmax_backward: SoftmaxBackward = attention.softmax_backward,
) -> tuple[Gradients, Params]:  # fmt: skip
    """Compute dquery, dkey, dvalue and dmask, the last None unless the mask is floating."""
    q, k, v = cache.q, cache.k, cache.v
    weights, slope = weights_and_slope(cache)
    dy = split(g, q.shape[-3])
    kept, dweights = weights, ungrouped(grouped(dy, k) @ v.mT, q)
    if isinstance(params, dropout.Params) and cache.dropped is not None:
        # Dropout is a product with drop / (1 - p), which is its own derivative.
        kept, _ = dropout.backward(params, cache.dropped, weights)
        dweights, _ = dropout.backward(params, cache.dropped, dweights)
    dv = grouped(kept, k).mT @ grouped(dy, k)
    dz = softmax_backward(dweights, weights)
    ds = grouped(dz if slope is None else dz * slope, k)
    dquery = merge_heads(ungrouped(ds @ k, q) * cache.scale)
    dkey = merge_heads(ds.mT @ grouped(q, k))
    dx = (dquery, dkey, merge_heads(dv), attention.mask_grad(dz, cache.mask))
    return (dx if cache.entries == 4 else dx[:3]), params


# Any: the keywords of `forward`.
def predict(params: Params, x: Inputs, *, p: float = 0.0, **options: Any) -> Sequence:
    """Compute y with all weights kept."""
    return forward(None, x, **options)[0]


# Any: the keywords of `forward`.
def inference_forward(
    params: Params, x: Inputs, *, p: float = 0.0, **options: Any
) -> tuple[Sequence, Cache]:
    """Compute y with all weights kept, and the cache of its gradient."""
    return forward(None, x, **options)


core.declare(predict, kind="attention", at_inference=(inference_forward, backward))


def grouped(x: Heads, k: Heads) -> Heads:
    """Put the query heads that read one head of keys one after the other, as one head."""
    heads = k.shape[-3]
    length = x.shape[-3] * x.shape[-2] // heads
    return x if x.shape[-3] == heads else x.reshape(*x.shape[:-3], heads, length, x.shape[-1])


def ungrouped(x: Heads, q: Heads) -> Heads:
    """Take the query heads apart again."""
    heads, length = q.shape[-3:-1]
    return x if x.shape[-3] == heads else x.reshape(*x.shape[:-3], heads, length, x.shape[-1])


def weights_and_slope(cache: Cache) -> tuple[Weights, Weights | None]:
    """Compute softmax(z + mask), and dz/ds = 1 - (z / c)^2, None without a soft cap."""
    q, k = cache.q, cache.k
    z, slope = ungrouped(grouped(q, k) @ k.mT, q), None
    if cache.softcap is not None:
        bounded = torch.tanh(z / cache.softcap)
        z, slope = cache.softcap * bounded, 1 - bounded**2
    visible = attention.visible_keys(
        z, is_causal=cache.is_causal, sliding_window=cache.sliding_window,
        is_aligned_at_end=cache.is_aligned_at_end,
    )  # fmt: skip
    return attention.masked_softmax(z, cache.mask, visible), slope


@core.constructor(kind="attention")
def attention_heads(
    num_heads: PositiveInt, num_kv_heads: PositiveInt | None = None, *, is_causal: bool = False,
    sliding_window: PositiveInt | None = None, softcap: Positive | None = None,
    scale: float | None = None, dropout: Probability = 0.0, is_aligned_at_end: bool = True,
) -> Layer:  # fmt: skip
    """Compute the attention of several heads, whose features stand side by side.

    x is (query, key, value) or (query, key, value, mask), with any number of equal leading axes:
    query (..., length, num_heads n), key (..., key length, num_kv_heads n), value (..., key length,
    num_kv_heads m), and a mask that broadcasts to (..., num_heads, length, key length), or None. A
    mask of bools is True where attention is allowed; a floating one is added to the scores. y has
    shape (..., length, num_heads m), with zeros where no key is allowed.

    Args:
        num_kv_heads: the heads of keys and values, a divisor of num_heads; None for num_heads.
        is_causal: whether a query attends only to the keys up to its own place.
        sliding_window: how near a key has to be: less than so many places away, the query's own
            place being 0 away. None for any distance.
        softcap: a bound c of the scores, which are c tanh(score / c) before the mask is added, as
            in Gemma 2; None for no bound.
        scale: a factor of the scores; None for 1 / sqrt(n).
        is_aligned_at_end: whether the last query is beside the last key; if not, the first query is
            beside the first key, as torch's is_causal has it.

    Returns:
        The layer. Its params are () without dropout, else `layers.dropout.Params`.

    Example:
        >>> query, key, value = torch.zeros(1, 6), torch.zeros(2, 3), torch.tensor([[1.0], [3.0]])
        >>> attention_heads(2, 1).predict((), (query, key, value))
        tensor([[2., 2.]])
    """
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    divides = num_heads % kv_heads == 0
    core.require(divides, NAME, f"num_kv_heads to divide num_heads = {num_heads}", num_kv_heads)
    options: dict[str, Any] = {  # Any: each is of its own type
        "num_heads": num_heads, "num_kv_heads": num_kv_heads, "is_causal": is_causal,
        "sliding_window": sliding_window, "softcap": softcap, "scale": scale, "p": dropout,
        "is_aligned_at_end": is_aligned_at_end,
    }  # fmt: skip
    return core.bare(
        Layer, partial(forward, **options), backward, init if dropout else core.no_params,
        predict=partial(predict, **options), advance=advance if dropout else core.unchanged,
    )  # fmt: skip


def check_forward(x: object, num_heads: int, num_kv_heads: int) -> None:
    """Check that query, key, value and mask fit each other and the heads."""
    attention.check_sequences(NAME, x)
    assert isinstance(x, tuple)
    query, key, value, *masks = x
    features, per_head = query.shape[-1], query.shape[-1] // num_heads
    if features == 0 or features % num_heads:
        raise core.unexpected(NAME, f"a query with features in {num_heads} heads", features)
    if key.shape[-1] != num_kv_heads * per_head:
        wanted = f"a key with {num_kv_heads} heads of {per_head} features"
        raise core.unexpected(NAME, wanted, key.shape[-1])
    if value.shape[-1] % num_kv_heads:
        wanted = f"a value with features in {num_kv_heads} heads"
        raise core.unexpected(NAME, wanted, value.shape[-1])
    if masks:
        scores = (*query.shape[:-2], num_heads, query.shape[-2], key.shape[-2])
        attention.check_mask(NAME, masks[0], query, scores)


def key_of_dropout(params: Params, p: float) -> dropout.Params | None:
    """Find the key of the weights' dropout; None if no weight is dropped."""
    if params is None or (params == () and not p):
        return None
    core.check_params(NAME, params, dropout.Params)
    assert isinstance(params, dropout.Params)
    return params
