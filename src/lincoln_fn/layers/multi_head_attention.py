"""Multi-head attention: y = merge(attention(split(q), split(k), split(v))) W_output + b_output.

(Vaswani and others, "Attention Is All You Need", 2017, section 3.2.2.)

Derivation. With scale = 1 / sqrt(features of a head), q = scale (query W_query + b_query): a dense
layer's output (layers/dense.py) times a number. k and v are such outputs. `split` cuts the features
into heads, (..., length, heads features) into (..., heads, length, features), and each head attends
for itself (layers/scaled_dot_product_attention.py); `merge` puts them side by side again. Both only
reorder, so their derivatives are each other. In turn,

    dmerged  = g W_output^T                 and what layers/dense.py has of W_output and b_output
    dkept    = split(dmerged) v^T           and dv = kept^T split(dmerged)
    dweights = dkept drop / (1 - p)         as layers/dropout.py has it, where weights drop out
    dq, dk                                  by way of dscores, as attention's own file has them
    dquery   = scale merge(dq) W_query^T    and what layers/dense.py has of W_query and b_query

and the same for key and value, without scale, but that db_key = 0: b_key adds the same to all
scores of a query, which softmax takes away again. In self-attention, where x enters three times,
dx = dquery + dkey + dvalue. Cache: the inputs of the four projections, and the heads. The weights,
whose number grows with the square of the length, are made again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lincoln_fn.initializers import Fans, Initializer
from lincoln_fn.keys import Key
from lincoln_fn.layers import dense, dropout
from lincoln_fn.layers._attention import Sequence, scores_backward, weights_of
from lincoln_fn.layers._attention_heads import (
    NAME,
    Given,
    Gradients,
    Heads,
    Inputs,
    full_mask,
    merge_heads,
    mirrored,
    parts_of,
    split_heads,
)
from lincoln_fn.layers._projections import (
    Projected,
    Projections,
    merged,
    project,
    project_grads,
    project_input_grads,
)
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_like, check_params


@record
class Params:
    """The four projections, and the key of the weights' dropout, or None without dropout."""

    query: dense.Params
    key: dense.Params
    value: dense.Params
    output: dense.Params
    dropout: dropout.Params | None


@record
class Cache:
    """The inputs; q, k and v by head; what dropped out of the weights; and the merged heads."""

    given: Given
    q: Heads
    k: Heads
    v: Heads
    dropped: dropout.Cache | None
    merged: Sequence
    is_causal: bool = static()


def init(
    key: Key,
    x: Inputs,
    *,
    num_heads: int,
    p: float,
    bias: bool,
    weight_init: Initializer,
    output_weight_init: Initializer,
    bias_init: Initializer,
) -> Params:
    """Make parameters for inputs like x.

    Args:
        key: what the initial values are drawn from.
        x: an example input, of which only shape, dtype and device count.
        num_heads: the number of heads, which divides the query's features.
        p: the probability to drop a weight; with 0 there is no key.
        bias: whether there are biases.
        weight_init: draws the weights of the query's, key's and value's projections. As in torch,
            these count as one matrix with three outputs where all have the same features.
        output_weight_init: draws the weight of the output's.
        bias_init: draws the biases.

    Returns:
        The parameters, in the query's dtype and on its device.

    Raises:
        LayerError: if x is of no form that `forward` takes.
    """
    given = parts_of((), x, None, num_heads, None)
    n = given.query.shape[-1]
    drawn = key.near(given.query).split(5)

    def projection(i: int, n_in: int, draw: Initializer, fan_out: int) -> dense.Params:
        weight_key, bias_key = drawn[i].split()
        fans, dtype = Fans(n_in, fan_out), given.query.dtype
        weight = draw.draw(weight_key, (n_in, n), fans, dtype)
        return dense.Params(weight, bias_init.draw(bias_key, (n,), fans, dtype) if bias else None)

    sizes = [part.shape[-1] for part in (given.query, given.key, given.value)]
    fan_out = 3 * n if len(set(sizes)) == 1 else n
    query, key_, value = (projection(i, size, weight_init, fan_out) for i, size in enumerate(sizes))
    output = projection(3, n, output_weight_init, n)
    return Params(query, key_, value, output, dropout.Params(drawn[4]) if p else None)


def forward(
    params: Params, x: Inputs, *, num_heads: int, p: float = 0.0, is_causal: bool = False
) -> tuple[Sequence, Cache]:
    """Compute y = merge(attention(split(q), split(k), split(v))) W_output + b_output.

    Args:
        params: the four projections.
        x: a sequence of shape (..., length, features), which attends to itself, or one of the
            tuples (sequence, mask), (query, key, value) and (query, key, value, mask). The mask is
            True where attention is allowed, or floating and added to the scores, or None. It has
            shape (..., key length), as a mask of padding has, or one axis more than the query and
            broadcasts to (..., heads, length, key length).
        num_heads: the number of heads.
        p: the probability to drop a weight.
        is_causal: whether query i attends to keys 0 to i only, beside what the mask forbids.

    Returns:
        y of the query's shape, and the cache.

    Raises:
        LayerError: if x is of no such form, or params are another layer's.
    """
    check_params(NAME, params, Params)
    weights_in = (params.query.weight, params.key.weight, params.value.weight)
    given = parts_of(params, x, Params, num_heads, [len(weight) for weight in weights_in])
    check_like(NAME, "x", given.query, params.query.weight)
    q, k, v = project(_inner(params), given, num_heads)
    q.mul_(_scale(q))
    weights, dropped = weights_of(q, k, full_mask(given), is_causal), None
    if params.dropout is not None:
        weights, dropped = dropout.forward(params.dropout, weights, p=p)
    y_heads = merge_heads(weights @ v)
    y, _ = dense.forward(params.output, y_heads)
    return y, Cache(given, q, k, v, dropped, y_heads, is_causal)


def backward(params: Params, cache: Cache, g: Sequence) -> tuple[Gradients, Params]:
    """Compute dx as `input_grad` does, and dparams as `grads` does.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx, which mirrors x, and dparams.

    Raises:
        LayerError: if g does not mirror y, or params or cache are another layer's.
    """
    dqkv, dmask = _through_heads(params, cache, g)
    return _dx(params, cache, dqkv, dmask), _dparams(params, cache, g, dqkv)


def input_grad(params: Params, cache: Cache, g: Sequence) -> Gradients:
    """Compute dx, without dparams.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx, which mirrors x; None stands for a mask of bools.

    Raises:
        LayerError: if g does not mirror y, or params or cache are another layer's.
    """
    return _dx(params, cache, *_through_heads(params, cache, g))


def grads(params: Params, cache: Cache, g: Sequence) -> Params:
    """Compute dparams, without dx.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dparams.

    Raises:
        LayerError: if g does not mirror y, or params or cache are another layer's.
    """
    return _dparams(params, cache, g, _through_heads(params, cache, g)[0])


def predict(
    params: Params, x: Inputs, *, num_heads: int, p: float = 0.0, is_causal: bool = False
) -> Sequence:
    """Compute y with all weights kept.

    Args:
        params: the four projections.
        x: as `forward` takes it.
        num_heads: the number of heads.
        p: ignored.
        is_causal: as `forward` takes it.

    Returns:
        y of the query's shape.

    Raises:
        LayerError: as `forward` does.
    """
    check_params(NAME, params, Params)
    whole = Params(params.query, params.key, params.value, params.output, None)
    return forward(whole, x, num_heads=num_heads, is_causal=is_causal)[0]


def advance(params: Params, cache: Cache) -> Params:
    """Move on to the next key of the weights' dropout, if there is any.

    Args:
        params: those given to `forward`.
        cache: ignored.

    Returns:
        The parameters with the next key.

    Raises:
        LayerError: if params are another layer's.
    """
    check_params(NAME, params, Params)
    state = params.dropout
    if state is not None:
        state = dropout.Params(state.key.fold_in(0))
    return Params(params.query, params.key, params.value, params.output, state)


def _through_heads(params: Params, cache: Cache, g: Sequence) -> tuple[Projected, Tensor | None]:
    """Compute scale merge(dq), merge(dk) and merge(dv), and dmask."""
    check_params(NAME, params, Params)
    check_cache(NAME, cache, Cache)
    check_cotangent(NAME, g, cache.given.query)
    q, k, v, dropped, mask = cache.q, cache.k, cache.v, cache.dropped, full_mask(cache.given)
    dmerged = dense.input_grad(params.output, cache.merged, g)
    dy = split_heads(dmerged, q.shape[-3])
    weights = weights_of(q, k, mask, cache.is_causal)
    kept, dweights = weights, dy @ v.mT
    if dropped is not None:
        kept = weights * dropped.mask * dropped.scale
        dweights = dweights * dropped.mask * dropped.scale
    dv = kept.mT @ dy
    dq, dk, dmask = scores_backward(dweights, weights, q, k, mask)
    dq.mul_(_scale(q))
    return merged(_inner(params), cache.given, (dq, dk, dv)), dmask


def _dx(params: Params, cache: Cache, dqkv: Projected, dmask: Tensor | None) -> Gradients:
    return mirrored(cache.given, project_input_grads(_inner(params), cache.given, dqkv), dmask)


def _dparams(params: Params, cache: Cache, g: Sequence, dqkv: Projected) -> Params:
    query, key, value = project_grads(_inner(params), cache.given, dqkv)
    # Summed up, it would be rounding errors, which an optimizer such as adam makes steps of.
    zero = None if key.bias is None else torch.zeros_like(key.bias)
    return Params(
        query,
        dense.Params(key.weight, zero),
        value,
        dense.grads(params.output, cache.merged, g),
        params.dropout,
    )


def _inner(params: Params) -> Projections:
    return params.query, params.key, params.value


def _scale(q: Heads) -> float:
    return 1 / math.sqrt(q.shape[-1])
