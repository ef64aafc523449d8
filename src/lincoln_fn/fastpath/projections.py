"""Query, key and value of self-attention by one product of three times the width.

Side by side, [q k v] = x [W_query W_key W_value] + [b_query b_key b_value] is one dense layer, so
with its g = [dq dk dv]

    dx = g [W_query W_key W_value]^T
    [dW_query dW_key dW_value] = x^T g

and the biases' gradients are the sums of g's parts. One product takes less time than three, and
computes dx without adding up. For a few rows it does not pay, for the matrices are put side by side
at every call.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.fastpath import dense
from lincoln_fn.layers._attention import Sequence
from lincoln_fn.layers._attention_forms import Given
from lincoln_fn.layers._heads import Heads
from lincoln_fn.layers.dense import Params

# So many rows pay for putting the matrices side by side.
_ROWS: Final = 64

Triple: TypeAlias = tuple[Heads, Heads, Heads]
Projections: TypeAlias = tuple[Params, Params, Params]
# The gradients of q, k and v, heads merged; one tensor where one product has made them.
Projected: TypeAlias = tuple[Float[Tensor, "*batch length n"], ...]


def project(params: Projections, given: Given, num_heads: int) -> Triple:
    """Compute q, k and v by head, new and contiguous, as the products of all heads read them."""
    if _is_one(params, given):
        return _split_three(dense.forward(_joined(params), given.query)[0], num_heads)
    inputs = (given.query, given.key, given.value)
    q, k, v = (
        split_heads(dense.forward(p, x)[0], num_heads) for p, x in zip(params, inputs, strict=True)
    )
    return q, k, v


def merged(params: Projections, given: Given, dheads: Triple) -> Projected:
    """Merge the heads of the gradients, for `project_input_grads` and `project_grads`."""
    if _is_one(params, given):
        return (merge_heads(*dheads),)
    return tuple(map(merge_heads, dheads))


def project_input_grads(params: Projections, given: Given, dqkv: Projected) -> tuple[Tensor, ...]:
    """Compute dquery, dkey and dvalue; their sum alone where the three are one sequence."""
    if len(dqkv) == 1:
        return (dense.input_grad(_joined(params), given.query, *dqkv),)
    inputs = (given.query, given.key, given.value)
    each = [dense.input_grad(p, x, d) for p, x, d in zip(params, inputs, dqkv, strict=True)]
    return (each[0] + each[1] + each[2],) if given.entries in (0, 2) else tuple(each)


def project_grads(params: Projections, given: Given, dqkv: Projected) -> Projections:
    """Compute the gradients of the query's, the key's and the value's projection."""
    if len(dqkv) == 1:
        joined = dense.grads(_joined(params), given.query, *dqkv)
        weights = joined.weight.chunk(3, -1)
        biases = (None,) * 3 if joined.bias is None else joined.bias.chunk(3)
        query, key, value = map(Params, weights, biases)
        return query, key, value
    inputs = (given.query, given.key, given.value)
    query, key, value = (dense.grads(p, x, d) for p, x, d in zip(params, inputs, dqkv, strict=True))
    return query, key, value


def split_heads(x: Sequence, num_heads: int) -> Heads:
    """Cut into heads and copy: as they lie then, the products of all heads are one call."""
    by_place = x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)
    return by_place.transpose(-3, -2).contiguous()


def merge_heads(*parts: Heads) -> Sequence:
    """Put (..., heads, length, features) together as (..., length, parts heads features)."""
    by_place = [x.transpose(-3, -2) for x in parts]
    return (torch.cat(by_place, -2) if len(parts) > 1 else by_place[0]).flatten(-2)


def _split_three(x: Sequence, num_heads: int) -> Triple:
    """Cut three sequences that stand side by side, (..., length, 3 heads features), likewise."""
    by_place = x.reshape(*x.shape[:-1], 3, num_heads, x.shape[-1] // (3 * num_heads))
    heads = by_place.movedim(-3, 0).transpose(-3, -2).contiguous()
    return heads[0], heads[1], heads[2]


def _is_one(params: Projections, given: Given) -> bool:
    """Return whether one product does: one sequence of enough rows, and biases for all or none."""
    has_bias = {p.bias is None for p in params}
    rows = given.query.numel() // max(given.query.shape[-1], 1)
    return given.entries in (0, 2) and len(has_bias) == 1 and rows >= _ROWS


def _joined(params: Projections) -> Params:
    weight = torch.cat([p.weight for p in params], 1)
    biases = [p.bias for p in params if p.bias is not None]
    return Params(weight, torch.cat(biases) if biases else None)
