"""The diagonal of the Gauss-Newton matrix, exactly.

Derivation. With s_(kn) the columns of a square root of the loss's Hessian, from `columns.py`,

    G = J^T H_L J = sum_(k,n) d_(kn) d_(kn)^T    with d_(kn) = J_n^T s_(kn)
    diag(G) = sum_(k,n) d_(kn)^2

d_(kn) is what the backward pass computes from s_(kn) in place of dL/dy. One pass for each k gives
the terms of all d_(kn), whose squares `forms.py` of `per_example` sums without d where it can.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, Params, PositiveInt, Term, tree
from lincoln_fn.curvature.columns import columns
from lincoln_fn.curvature.duals import fast_layers
from lincoln_fn.losses import Loss
from lincoln_fn.per_example.internal import check_independent, forms, terms_of


@core.checked
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
        loss: with reduction mean or sum, and convex in the prediction.
        columns_at_once: former, and without effect: the columns of the loss's Hessian go back one
            after the other.

    Source:
        Dangel, Kunstner and Hennig, "BackPACK", ICLR 2020, section 2.3.

    Example:
        >>> net, loss = lf.dense(1, bias=False), lf.losses.mse(reduction="sum")
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> params = net.init(lf.Key(0), x)
        >>> ggn_diagonal(net, params, x, loss, torch.ones(1, 1)).weight.round().T
        tensor([[2., 8.]])
    """
    check_independent(net)
    net = fast_layers(net)
    prediction, cache = net.forward(params, x)
    return square_sums(net, params, cache, columns(loss, prediction, target))


def square_sums(net: Layer, params: Params, cache: Cache, g: Float[Tensor, "K N *s"]) -> Params:
    """Compute sum_(k,n) d_(kn)^2 of each parameter, one column after the other."""

    def add(p: Tensor, total: Tensor, term: Term | Tensor) -> Tensor:
        return total + forms.square_sum(term, p) if isinstance(term, Term) else total

    totals = tree.map(torch.zeros_like, params)
    for column in g:
        terms = terms_of("ggn_diagonal", net, params, cache, column)
        totals = tree.map(add, params, totals, terms)
    return totals
