"""Relative position bias: a trained mask to add to scores, by the distance of query and key.

The distance j - i of key j from query i falls into one of B buckets, and each head h has a number
for each bucket:

    y_(hij) = W_(bh)    b = b(j - i)

Half of the buckets are for keys after the query. In each direction, with n = B / 2 buckets and
distance d, the first n / 2 buckets hold one distance each, and the others hold more and more, up to
the distance M:

    b = {(d, if d < n/2), (min(n/2 + floor(n/2 log(2 d / n) / log(2 M / n)), n - 1), otherwise):}

If not bidirectional, all n = B buckets are for keys before the query, and keys after it are at
distance 0. With a mask of the keys, y is -infinity where a key is hidden.

Derivation. y is a lookup, as in `embedding`, so the gradient of a bucket is the sum of all g of its
distances, over the sequences, too. A hidden key's y does not depend on W, so its g is left out. x
only gives the length:

    delta_(bij) = {(1, if b(j - i) = b), (0, otherwise):}
    dW_(bh) = sum_(ij) delta_(bij) g_(hij)
    dx = 0

Cache: the shapes of x and y, the buckets, and the mask. Source: Raffel and others, "Exploring the
Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2020, section 2.1.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Gather, Key, Layer, PositiveInt, Sequence, bare, record, require
from lincoln_fn.initializers import Fans, Initializer, normal
from lincoln_fn.layers.common.inputs import add_at
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.layers.common.sequences import Inputs, Mirrored, mirrored, sequence_and_mask

NAME = "relative_position_bias"

Bias: TypeAlias = Float[Tensor, "*batch heads length length"]


@record
class Params:
    """The number of each bucket, for each head."""

    weight: Float[Tensor, "num_buckets num_heads"]


@record
class Cache:
    """Stand-ins for the sequence and y, the bucket of each query and key, and the mask."""

    x: Sequence
    y: Bias
    buckets: Int[Tensor, "length length"]
    mask: Bool[Tensor, "*batch length"] | None
    has_mask_entry: bool = core.static()


def init(
    key: Key, x: Inputs, *, num_heads: int, num_buckets: int, weight_init: Initializer
) -> Params:
    """Draw W of shape (num_buckets, num_heads)."""
    sequence, _ = sequence_and_mask(NAME, x)
    shape = (num_buckets, num_heads)
    return Params(weight_init.draw(key, shape, Fans(*shape), sequence.dtype))


def forward(
    params: Params, x: Inputs, *, max_distance: int, bidirectional: bool
) -> tuple[Bias, Cache]:
    """Compute y_hij = W_bh with b = b(j - i), or -infinity where the mask hides key j."""
    sequence, mask = sequence_and_mask(NAME, x)
    num_buckets, _ = core.shape_of(NAME, params.weight, "(num_buckets, num_heads)")
    core.check_like(NAME, "x", sequence, params.weight)
    place = torch.arange(sequence.shape[-2], device=sequence.device)
    distance = place - place.unsqueeze(-1)
    buckets = buckets_of(distance, num_buckets, max_distance, bidirectional=bidirectional)
    bias = params.weight[buckets].movedim(-1, 0)
    y = bias.expand(*sequence.shape[:-2], *bias.shape)
    if mask is not None:
        y = y.masked_fill(~mask[..., None, None, :], -math.inf)
    like = core.stand_ins(sequence, y)
    return y, Cache(like.x, like.y, buckets, mask, isinstance(x, tuple))


def backward(params: Params, cache: Cache, g: Bias) -> tuple[Mirrored, Params]:
    """Compute dW_bh = sum of g_hij over all i and j with bucket b, and dx = 0."""
    g = _of_visible_keys(cache, g)
    rows = widened(g).reshape(-1, *g.shape[-3:]).sum(0).movedim(0, -1).flatten(0, 1)
    dweight = add_at(cache.buckets.flatten(), rows, len(params.weight), 0).to(g.dtype)
    return mirrored(g.new_zeros(cache.x.shape), cache.has_mask_entry), Params(dweight)


def terms(params: Params, cache: Cache, g: Tensor) -> Params:
    """Return dW_n: g_nhij in row b(j - i)."""
    core.check_batched(NAME, g, 4)
    rows = _of_visible_keys(cache, g).movedim(-3, -1).flatten(-3, -2)
    index = cache.buckets.flatten().expand(*rows.shape[:-1])
    return core.mirror(params, weight=Gather(index, rows))


def _of_visible_keys(cache: Cache, g: Bias) -> Bias:
    """Return g with 0 where the mask hides a key."""
    return g if cache.mask is None else g.masked_fill(~cache.mask[..., None, None, :], 0)


@core.constructor(kind="addition", terms=terms, along="rows")
def relative_position_bias(
    num_heads: PositiveInt, num_buckets: PositiveInt = 32, max_distance: PositiveInt = 128,
    *, bidirectional: bool = True, weight_init: Initializer = normal(0.02),
) -> Layer:  # fmt: skip
    """Make a trained mask for attention, by the distance of query and key.

    x is a sequence (..., length, features), of which only the shape matters, or (sequence, mask),
    with a mask (..., length) that is True where a key may be seen, or None. y has shape
    (..., num_heads, length, length), with -infinity at keys that the mask hides. It is a mask for
    `attention_heads` and the layers around it.

    Args:
        num_buckets: the number of buckets, at least 2, or 4 if bidirectional.
        max_distance: the distance from which on all are in one bucket.
        bidirectional: whether keys after the query have buckets of their own, as in T5's encoder;
            its causal decoder has all buckets for keys before the query.
        weight_init: draws the numbers, by default normal with standard deviation 0.02.

    Example:
        >>> params = Params(torch.tensor([[0.0], [1.0], [0.0], [2.0]]))
        >>> relative_position_bias(1, 4, 8).predict(params, torch.zeros(3, 5))
        tensor([[[0., 2., 2.],
                 [1., 0., 2.],
                 [1., 1., 0.]]])
    """
    least = 4 if bidirectional else 2
    require(num_buckets >= least, NAME, f"num_buckets of at least {least}", num_buckets)
    single = num_buckets // least
    require(max_distance > single, NAME, f"max_distance above {single}", max_distance)
    return bare(Layer, forward, backward, init)


def buckets_of(
    distance: Int[Tensor, "*s"], num_buckets: int, max_distance: int, *, bidirectional: bool
) -> Int[Tensor, "*s"]:
    """Compute the bucket b(j - i) of each distance j - i."""
    first: Tensor | int = 0
    if bidirectional:
        num_buckets //= 2
        first = num_buckets * (distance > 0)
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    single = num_buckets // 2
    # In float32, as trained networks have it: a distance at a bucket's edge may round either way.
    logs = torch.log(distance.float() / single) / math.log(max_distance / single)
    large = single + (logs * (num_buckets - single)).long().clamp(max=num_buckets - single - 1)
    return first + torch.where(distance < single, distance, large)
