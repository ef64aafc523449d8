"""Scaled dot-product attention: y = softmax(query key^T scale + mask) value.

(Vaswani and others, "Attention Is All You Need", 2017, equation 1.)

Derivation. Query i has one score for each key j, and y_i is the mean of the values by its weights:

    scores_ij  = scale sum_e query_ie key_je + mask_ij
    weights_ij = exp(scores_ij) / sum_n exp(scores_in)
    y_if       = sum_j weights_ij value_jf

The last line is a matrix product, and so is the first; softmax, row by row, is between the two. By
the rule of each (layers/dense.py and layers/softmax.py),

    dvalue_jf   = sum_i weights_ij g_if                         dvalue   = weights^T g
    dweights_ij = sum_f g_if value_jf                           dweights = g value^T
    dscores_ij  = weights_ij (dweights_ij - sum_n dweights_in weights_in)
    dquery_ie   = scale sum_j dscores_ij key_je                 dquery   = dscores key scale
    dkey_je     = scale sum_i dscores_ij query_ie               dkey     = dscores^T query scale
    dmask_ij    = dscores_ij, summed over the axes along which the mask was broadcast.

A mask of bools stands for 0 where it is True and -inf where it is False; there the weight is 0 and
with it dscores. Where a query may attend to no key at all, its weights are all 0 and so is y, and
nothing flows back. Cache: x and the weights.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers._attention import (
    Mask,
    Sequence,
    check_mask,
    check_sequences,
    scores_backward,
    weights_of,
)
from lincoln_fn.record import record, static
from lincoln_fn.shapes import LayerError, check_cache, check_cotangent, check_params

Inputs: TypeAlias = (
    tuple[Sequence, Sequence, Sequence] | tuple[Sequence, Sequence, Sequence, Mask | None]
)
Gradients: TypeAlias = (
    tuple[Sequence, Sequence, Sequence] | tuple[Sequence, Sequence, Sequence, Tensor | None]
)


@record
class Cache:
    """The inputs, what each query attends to, and the factor of the scores."""

    x: Inputs
    weights: Float[Tensor, "*batch length key_length"]
    scale: float = static()


def forward(
    params: tuple[()], x: Inputs, *, is_causal: bool = False, scale: float | None = None
) -> tuple[Float[Tensor, "*batch length n_out"], Cache]:
    """Compute y = softmax(query key^T scale + mask) value.

    Args:
        params: ().
        x: query of shape (..., length, features), key (..., key length, features), value (...,
            key length, n_out), any number of equal leading axes; and a mask that broadcasts to
            (..., length, key length), None for none: bools, True where attention is allowed, or
            numbers that are added to the scores.
        is_causal: whether query i attends to keys 0 to i only, beside what the mask forbids.
        scale: a factor of the scores; None for 1 / sqrt(features).

    Returns:
        y of shape (..., length, n_out), zeros where no key is allowed, and the cache.

    Raises:
        LayerError: if the inputs do not fit together, or params are another layer's.

    Example:
        >>> query, key, value = torch.zeros(1, 3), torch.zeros(2, 3), torch.tensor([[1.0], [3.0]])
        >>> forward((), (query, key, value))[0]
        tensor([[2.]])
    """
    name = "scaled_dot_product_attention"
    check_sequences(name, params, x, None)
    query, key, value = x[:3]
    mask = x[3] if len(x) == 4 else None
    if query.shape[-1] != key.shape[-1]:
        sizes = f"{query.shape[-1]} and {key.shape[-1]}"
        raise LayerError(name, f"expected query and key with the same features, got {sizes}")
    check_mask(name, mask, query, (*query.shape[:-1], key.shape[-2]))
    if scale is None:
        scale = 1 / math.sqrt(max(query.shape[-1], 1))
    weights = weights_of(query * scale, key, mask, is_causal)
    return weights @ value, Cache(x, weights, scale)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch length n_out"]
) -> tuple[Gradients, tuple[()]]:
    """Compute dx = (dquery, dkey, dvalue), and behind them dmask, None for a mask of bools.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx, with an entry for each of x's, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> query, key, value = torch.zeros(1, 3), torch.zeros(2, 3), torch.tensor([[1.0], [3.0]])
        >>> _, cache = forward((), (query, key, value))
        >>> backward((), cache, torch.ones(1, 1))[0][2]
        tensor([[0.5000],
                [0.5000]])
    """
    name = "scaled_dot_product_attention"
    check_params(name, params, None)
    check_cache(name, cache, Cache)
    query, key, value = cache.x[:3]
    mask = cache.x[3] if len(cache.x) == 4 else None
    check_cotangent(name, g, query, (*query.shape[:-1], value.shape[-1]))
    dweights = g @ value.mT
    dvalue = cache.weights.mT @ g
    scaled = query * cache.scale
    dscaled, dkey, dmask = scores_backward(dweights, cache.weights, scaled, key, mask)
    dquery = dscaled * cache.scale
    if len(cache.x) == 3:
        return (dquery, dkey, dvalue), ()
    return (dquery, dkey, dvalue, dmask), ()
