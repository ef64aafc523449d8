"""The diagonal of the Gauss-Newton matrix, exactly.

Derivation. With s_(kn) the columns of a square root of the loss's Hessian, from `columns.py`,

    G = J^T H_L J = sum_(k,n) d_(kn) d_(kn)^T    with d_(kn) = J_n^T s_(kn)
    diag(G) = sum_(k,n) d_(kn)^2

d_(kn) is what the backward pass computes from s_(kn) in place of dL/dy. All columns go back at
once. In a layer that multiplies rows by a matrix, with the rows t of example n,

    d_(kn) = sum_t x_(nt)^T g_(knt)

One product for each example gives d_(kn) for all columns. If each example has one row, d_(kn)^2 is
the outer product of the squares, and the sum over k comes first:

    sum_(k,n) (x_n^T g_(kn))^2 = sum_n (x_n^2)^T sum_k g_(kn)^2
"""

from __future__ import annotations

from functools import reduce

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, Params, PositiveInt, Term, evolve, tree
from lincoln_fn.curvature.columns import column_sites, columns, has_inputs_first, rows_of
from lincoln_fn.curvature.duals import fast_for_columns
from lincoln_fn.losses import Loss
from lincoln_fn.per_example.internal import check_independent, dx_and_terms, examples_in, forms
from lincoln_fn.walk import Site, grads_at

# How many numbers of gradients are in memory at one time: 4 MiB of float32.
_AT_ONCE = 2**20


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
        columns_at_once: how many columns of the loss's Hessian go back together, such as 10 of 100
            classes; None for all. Fewer take less memory.

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
    params, cache, g = site.params, site.cache, site.g
    rows = rows_of(site.layer, params, cache, g)
    if rows is not None:
        weight = RowColumns(*rows, has_inputs_first(params.weight))
        bias = None if params.bias is None else Columns(tuple(map(core.Explicit, rows[1].sum(2))))
        return evolve(params, weight=weight, bias=bias)
    each = []
    for k in range(len(tree.leaves(g)[0])):
        g_k = tree.map(lambda leaf, k=k: leaf[k], g)
        each.append(dx_and_terms(site.layer, params, cache, g_k, examples_in(g_k), dx=False)[1])
    return tree.map(lambda _, *terms: Columns(terms), params, *each)


@attrs.frozen(eq=False)
class Columns(core.Addable):
    """The gradients of one use of a parameter, a `Term` for each column."""

    terms: tuple[Term, ...]

    def square_sum(self, p: Tensor) -> Tensor:
        """Compute sum_(k,n) d_(kn)^2."""
        return reduce(torch.add, [forms.square_sum(term, p) for term in self.terms])

    def to(self, dtype: torch.dtype) -> Columns:
        """Return the columns in another dtype, in which the gradients are then computed."""
        return Columns(tuple(term.to(dtype) for term in self.terms))

    def joined(self, other: Columns) -> Columns:
        """Add the gradients of two uses of a parameter, column by column."""
        pairs = zip(self.terms, other.terms, strict=True)
        return Columns(tuple(first.joined(second) for first, second in pairs))


@attrs.frozen(eq=False)
class RowColumns(Columns):
    """d_(kn) = sum_t g_(knt)^T x_(nt), by its factors; transposed where the weight is."""

    x: Float[Tensor, "N T I"]
    g: Float[Tensor, "K N T O"]
    inputs_first: bool
    terms: tuple[Term, ...] = attrs.field(init=False)

    @terms.default
    def _outer(self) -> tuple[Term, ...]:
        pairs = [(self.x, g) if self.inputs_first else (g, self.x) for g in self.g]
        return tuple(core.Outer(a, b) for a, b in pairs)

    def to(self, dtype: torch.dtype) -> RowColumns:
        """Return the columns in another dtype."""
        return RowColumns(self.x.to(dtype), self.g.to(dtype), self.inputs_first)

    def square_sum(self, p: Tensor) -> Tensor:
        """Compute sum_(k,n) d_(kn)^2 from the factors."""
        x, g = self.x, self.g.mT.transpose(0, 1)  # (N, K, O, T)
        if x.shape[1] == 1:
            total = g.squeeze(3).square().sum(1).mT @ x.squeeze(1).square()
        else:
            few = max(1, _AT_ONCE // (g.shape[1] * g.shape[2] * x.shape[2]))
            pairs = zip(torch.split(x, few), torch.split(g, few), strict=True)
            total = reduce(torch.add, [_squares(rows, columns) for rows, columns in pairs])
        return (total.mT if self.inputs_first else total).reshape(p.shape)


def _squares(x: Float[Tensor, "N T I"], g: Float[Tensor, "N K O T"]) -> Float[Tensor, "O I"]:
    products = g.flatten(1, 2) @ x
    total: Tensor = products.square_().sum(0)
    return total.reshape(*g.shape[1:3], -1).sum(0)
