"""The table of layers: how each one's gradients for single examples are found.

A row is by the layer's `grads`, or by its `backward` where `grads` is made from it. So a layer of
the user's own whose `grads` is a known one has its row, too, and so do the fast functions.

A layer without a row is asked for the gradient of each example alone. `grads` is linear in g, so
that is the gradient for a g that is zero for all other examples. It takes a call of `grads` for
each example.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.combine import _scores
from lincoln_fn.fastpath import convolution as fast_convolution
from lincoln_fn.fastpath import dense as fast_dense
from lincoln_fn.fastpath import embedding as fast_embedding
from lincoln_fn.fastpath import lstm as fast_lstm
from lincoln_fn.fastpath import normalisation as fast_normalisation
from lincoln_fn.layer import Arrays, Cache, Layer, Params, is_derived, unbound
from lincoln_fn.layers import (
    _by_running,
    bilinear,
    conv,
    conv_transpose,
    dense,
    embedding,
    group_norm,
    gru,
    instance_norm,
    layer_norm,
    lstm,
    positional_embedding,
    prelu,
    recurrent_cell,
    rms_norm,
    rnn,
)
from lincoln_fn.per_example import convolution, elementwise, normalisation, products, recurrent
from lincoln_fn.per_example.checks import no_batch
from lincoln_fn.per_example.terms import Explicit

# Any: the params, the cache and the terms are each layer's own.
Function: TypeAlias = Callable[..., Any]

# (params, cache, g) -> terms, which mirror params.
TERMS: Final[dict[Function, Function]] = {
    _by_running.backward: normalisation.instance_terms,
    _scores.grads: products.scores_terms,
    bilinear.grads: products.bilinear_terms,
    conv.grads: convolution.terms,
    conv_transpose.grads: convolution.transposed_terms,
    dense.grads: products.dense_terms,
    embedding.backward: products.embedding_terms,
    fast_convolution.grads: convolution.fast_terms,
    fast_dense.grads: products.dense_terms,
    fast_embedding.backward: products.embedding_terms,
    fast_normalisation.group_backward: normalisation.fast_channel_terms,
    fast_normalisation.layer_backward: normalisation.fast_row_terms,
    group_norm.backward: normalisation.channel_terms,
    instance_norm.backward: normalisation.instance_terms,
    layer_norm.backward: normalisation.row_terms,
    positional_embedding.backward: elementwise.position_terms,
    prelu.backward: elementwise.prelu_terms,
    recurrent_cell.backward: recurrent.cell_terms,
    rms_norm.backward: normalisation.row_terms,
}
# (params, cache, g) -> (dx, terms), where they share their work.
BACKWARD: Final[dict[Function, Function]] = {
    fast_lstm.backward: recurrent.backward,
    gru.backward: recurrent.backward,
    lstm.backward: recurrent.backward,
    rnn.backward: recurrent.backward,
}


def key_of(layer: Layer) -> Function:
    """Return the function of a layer that its row is by."""
    return unbound(layer.backward if is_derived(layer, "grads") else layer.grads)


def own_terms(layer: Layer, params: Params, cache: Cache, g: Arrays, count: int) -> Params:
    """Compute the gradients of a layer without a row, one example after the other."""
    for leaf in tree.leaves(g):
        if leaf.ndim == 0 or len(leaf) != count:
            raise no_batch(layer.name, leaf)

    def alone(n: int) -> Params:
        def masked(leaf: Tensor) -> Tensor:
            at = torch.tensor([n], device=leaf.device)
            return torch.zeros_like(leaf).index_copy(0, at, leaf[n : n + 1])

        return layer.grads(params, cache, tree.map(masked, g))

    each = [alone(n) for n in range(count)]
    return tree.map(lambda _, *leaves: Explicit(torch.stack(leaves)), params, *each)
