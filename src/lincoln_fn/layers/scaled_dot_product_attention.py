"""Scaled dot-product attention: y = softmax(query key^T scale + mask) value.

Derivation. Query i has one score for each key j, and y_i is the mean of the values by its weights:

    scores_(ij) = scale sum_e query_(ie) key_(je) + mask_(ij)
    weights_(ij) = e^(scores_(ij)) / (sum_n e^(scores_(i n)))
    y_(i f) = sum_j weights_(ij) value_(j f)

The first and the last line are matrix products, and between them is a softmax of each row. By the
derivations in `dense` and `softmax`, with g for dL/dy,

    dvalue = weights^T g
    dweights = g value^T
    dscores_(ij) = weights_(ij) (dweights_(ij) - sum_n dweights_(i n) weights_(i n))
    dquery = scale dscores key
    dkey = scale dscores^T query
    dmask = dscores    summed over the axes along which the mask was broadcast

A mask of bools means 0 where it is True and -inf where it is False. Where it is False, the weight
and dscores are 0. If no key is allowed for a query, its weights, y and dscores are all 0.

Cache: x, the weights and scale. Source: Vaswani and others, "Attention Is All You Need", 2017,
equation 1.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Layer, Like, bare, constructor, record, static, unexpected
from lincoln_fn.layers.common import attention
from lincoln_fn.layers.common.attention import Gradients, Inputs, SoftmaxBackward

NAME = "scaled_dot_product_attention"


@record
class Cache:
    x: Inputs
    weights: Float[Tensor, "*batch length key_length"]
    y: Like = static()
    scale: float = static()


def forward(
    params: tuple[()], x: Inputs, *, is_causal: bool, scale: float | None
) -> tuple[Float[Tensor, "*batch length n_out"], Cache]:
    """Compute y = softmax(query key^T scale + mask) value."""
    scale = check_forward(x, scale)
    query, key, value = x[:3]
    mask = x[3] if len(x) == 4 else None
    scores = query * scale @ key.mT
    visible = attention.visible_keys(scores, is_causal=is_causal)
    weights = attention.masked_softmax(scores, mask, visible)
    y = weights @ value
    return y, Cache(x, weights, Like.of(y), scale)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch length n_out"],
    *, softmax_backward: SoftmaxBackward = attention.softmax_backward,
) -> tuple[Gradients, tuple[()]]:  # fmt: skip
    """Compute dx = (dquery, dkey, dvalue), followed by dmask, which is None for a mask of bools."""
    query, key, value, *rest = cache.x
    dweights = g @ value.mT
    dvalue = cache.weights.mT @ g
    dscores = softmax_backward(dweights, cache.weights)
    dquery = dscores @ key * cache.scale
    dkey = dscores.mT @ (query * cache.scale)
    if not rest:
        return (dquery, dkey, dvalue), ()
    return (dquery, dkey, dvalue, attention.mask_grad(dscores, *rest)), ()


@constructor(kind="attention")
def scaled_dot_product_attention(is_causal: bool = False, scale: float | None = None) -> Layer:
    """Compute attention: y = softmax(query key^T scale + mask) value.

    x is (query, key, value) or (query, key, value, mask), with any number of equal leading axes:
    query (..., length, features), key (..., key length, features), value (..., key length, n_out),
    and a mask that broadcasts to (..., length, key length), or None. A mask of bools is True where
    attention is allowed; a floating one is added to the scores. y has shape (..., length, n_out),
    with zeros where no key is allowed.

    Args:
        scale: a factor of the scores; None for 1 / sqrt(features).

    Example:
        >>> query, key, value = torch.zeros(1, 3), torch.zeros(2, 3), torch.tensor([[1.0], [3.0]])
        >>> scaled_dot_product_attention().predict((), (query, key, value))
        tensor([[2.]])
    """
    return bare(Layer, forward, backward)


def check_forward(x: Inputs, scale: float | None) -> float:
    """Check that the inputs fit together, and return the factor of the scores."""
    attention.check_sequences(NAME, x)
    query, key = x[:2]
    if query.shape[-1] != key.shape[-1]:
        expected = "query and key with the same features"
        raise unexpected(NAME, expected, f"{query.shape[-1]} and {key.shape[-1]}")
    if len(x) == 4:
        attention.check_mask(NAME, x[3], query, (*query.shape[:-1], key.shape[-2]))
    return 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale
