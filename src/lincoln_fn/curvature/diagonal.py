"""The diagonal of the Gauss-Newton matrix, exactly.

Derivation. With s_(kn) the columns of a square root of the loss's Hessian, from `loss_hessian.py`,

    G = J^T H_L J = sum_(k,n) d_(kn) d_(kn)^T    with d_(kn) = J_n^T s_(kn)
    diag(G) = sum_(k,n) d_(kn)^2

d_(kn) is what the backward pass computes from s_(kn) in place of dL/dy. All columns go back at
once, and `_columns.py` sums the squares layer by layer.

Source: Dangel, Kunstner and Hennig, "BackPACK: Packing more into Backprop", ICLR 2020, section 2.3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, Params, PositiveInt, checked, evolve, tree
from lincoln_fn.curvature._column_sites import column_sites
from lincoln_fn.curvature._columns import Columns, RowColumns, explicit
from lincoln_fn.curvature._rows import has_inputs_first, rows_of
from lincoln_fn.curvature.forward_mode import fast_for_columns
from lincoln_fn.curvature.loss_hessian import columns
from lincoln_fn.losses import Loss
from lincoln_fn.per_example.internal import check_independent, dx_and_terms, examples_in
from lincoln_fn.walk import Site, grads_at


@checked
def ggn_diagonal(
    net: Layer,
    params: Params,
    x: Arrays,
    loss: Loss,
    target: Arrays,
    *,
    columns_at_once: PositiveInt | None = None,
) -> Params:
    """Compute the diagonal of the generalised Gauss-Newton matrix G = J^T H_L J, exactly.

    Args:
        net: the network. It computes each example alone, with the examples on axis 0 of every
            layer's output. It runs as in training: for the curvature of what `predict` computes,
            give `lf.inference(net)`.
        params: where G is taken.
        x: the input of a batch.
        loss: with reduction mean or sum, and convex in the prediction.
        target: the batch's target.
        columns_at_once: how many columns of the loss's Hessian go back together, such as 10 of 100
            classes; None for all. Fewer take less memory.

    Returns:
        diag(G), a tree that mirrors params.

    Raises:
        LayerError: if a layer mixes examples, the prediction is not one tensor, or the loss's
            Hessian has a negative eigenvalue.

    Source:
        Dangel, Kunstner and Hennig, "BackPACK: Packing more into Backprop", ICLR 2020.

    Example:
        >>> net, loss = lf.dense(1, bias=False), lf.losses.mse(reduction="sum")
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> params = net.init(lf.Key(0), x)
        >>> ggn_diagonal(net, params, x, loss, torch.ones(1, 1)).weight.round()
        tensor([[2.],
                [8.]])
    """
    check_independent(net)
    net = fast_for_columns(net)
    prediction, cache = net.forward(params, x)
    g = columns(loss, prediction, target)
    del prediction
    parts = torch.split(g, columns_at_once or max(1, len(g)))
    totals = [square_sums(net, params, cache, some) for some in parts]
    return tree.map(lambda p, *parts: sum(parts[1:], parts[0]), params, *totals)


def square_sums(net: Layer, params: Params, cache: Cache, g: Float[Tensor, "K N *s"]) -> Params:
    """Compute sum_(k,n) d_(kn)^2 of each parameter."""
    uses = grads_at(net, params, column_sites(net, params, cache, g, _columns_of))

    def total(p: Tensor, use: Columns | Tensor) -> Tensor:
        return use.square_sum(p) if isinstance(use, Columns) else torch.zeros_like(p)

    return tree.map(total, params, uses)


def _columns_of(site: Site) -> Params:
    """Return the columns of each parameter of a layer."""
    layer, params, cache, g = site.layer, site.params, site.cache, site.g
    rows = rows_of(layer, params, cache, g)
    if rows is not None:
        weight = RowColumns(rows.x, rows.g, has_inputs_first(params.weight))
        bias = None if params.bias is None else explicit(rows.g.sum(2))
        return evolve(params, weight=weight, bias=bias)
    each = [_terms(layer, params, cache, g_k) for g_k in _each_column(g)]
    return tree.map(lambda _, *terms: Columns(terms), params, *each)


def _each_column(g: Arrays) -> list[Arrays]:
    count = len(tree.leaves(g)[0])
    return [tree.map(lambda leaf, k=k: leaf[k], g) for k in range(count)]


def _terms(layer: Layer, params: Params, cache: Cache, g: Arrays) -> Params:
    """Return the gradients of each example, for one column."""
    return dx_and_terms(layer, params, cache, g, examples_in(g), dx=False)[1]
