"""The projections of query, key and value: three dense layers, or one where the three are one x.

Derivation. Side by side, [q k v] = x [W_query W_key W_value] + [b_query b_key b_value] is one dense
layer, so with its g = [dq dk dv]

    dx = g [W_query W_key W_value]^T = dq W_query^T + dk W_key^T + dv W_value^T
    [dW_query dW_key dW_value] = x^T g, and the biases' gradients are the sums of g's parts.

One product of three times the width takes less time than three, and makes dx without adding up. For
a few rows it does not pay, for the matrices are put side by side at every call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.layers import dense
from lincoln_fn.layers._attention_heads import (
    Given,
    Triple,
    merge_heads,
    split_heads,
    split_three,
)

# So many rows pay for putting the matrices side by side.
_ROWS = 64

Projections = tuple[dense.Params, dense.Params, dense.Params]
# The gradients of q, k and v, their heads put together; one tensor where one product makes them.
Projected = tuple[Tensor, ...]


def project(params: Projections, given: Given, num_heads: int) -> Triple:
    """Compute q, k and v, by head.

    Args:
        params: the three projections.
        given: the parts of x.
        num_heads: the number of heads.

    Returns:
        The three, new.
    """
    if _is_one(params, given):
        return split_three(dense.forward(_joined(params), given.query)[0], num_heads)
    inputs = (given.query, given.key, given.value)
    q, k, v = (
        split_heads(dense.forward(p, x)[0], num_heads) for p, x in zip(params, inputs, strict=True)
    )
    return q, k, v


def merged(params: Projections, given: Given, dheads: Triple) -> Projected:
    """Put the heads of gradients together.

    Args:
        params: the three projections.
        given: the parts of x.
        dheads: the gradients of q, k and v, by head.

    Returns:
        What `project_input_grads` and `project_grads` take.
    """
    if _is_one(params, given):
        return (merge_heads(*dheads),)
    return tuple(map(merge_heads, dheads))


def project_input_grads(params: Projections, given: Given, dqkv: Projected) -> tuple[Tensor, ...]:
    """Compute what the three projections give back to query, key and value.

    Args:
        params: the three projections.
        given: the parts of x.
        dqkv: what `merged` returned.

    Returns:
        One gradient for each entry of x that is a sequence: one where the three are one sequence.
    """
    if len(dqkv) == 1:
        return (dense.input_grad(_joined(params), given.query, *dqkv),)
    inputs = (given.query, given.key, given.value)
    each = [dense.input_grad(p, x, d) for p, x, d in zip(params, inputs, dqkv, strict=True)]
    return (each[0] + each[1] + each[2],) if given.entries in (0, 2) else tuple(each)


def project_grads(params: Projections, given: Given, dqkv: Projected) -> Projections:
    """Compute the gradients of the three projections.

    Args:
        params: the three projections.
        given: the parts of x.
        dqkv: what `merged` returned.

    Returns:
        The gradients of query's, key's and value's.
    """
    if len(dqkv) == 1:
        joined = dense.grads(_joined(params), given.query, *dqkv)
        weights = joined.weight.chunk(3, -1)
        biases = (None,) * 3 if joined.bias is None else joined.bias.chunk(3)
        query, key, value = map(dense.Params, weights, biases)
        return query, key, value
    inputs = (given.query, given.key, given.value)
    query, key, value = (dense.grads(p, x, d) for p, x, d in zip(params, inputs, dqkv, strict=True))
    return query, key, value


def _is_one(params: Projections, given: Given) -> bool:
    """Tell whether one product does: one sequence of enough rows, and biases for all or none."""
    has_bias = {p.bias is None for p in params}
    rows = given.query.numel() // max(given.query.shape[-1], 1)
    return given.entries in (0, 2) and len(has_bias) == 1 and rows >= _ROWS


def _joined(params: Projections) -> dense.Params:
    weight = torch.cat([p.weight for p in params], 1)
    biases = [p.bias for p in params if p.bias is not None]
    return dense.Params(weight, torch.cat(biases) if biases else None)
