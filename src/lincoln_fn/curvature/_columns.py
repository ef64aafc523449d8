"""Squares of gradients, summed over the examples and over the columns of a loss's Hessian.

A column k gives each example n a g of its own, g_(kn), and so each parameter a gradient of its own,
d_(kn). The diagonal of the Gauss-Newton matrix is

    diag(G) = sum_(k,n) d_(kn)^2    element by element

Derivation for a layer that multiplies rows by a matrix. With the rows t of example n,

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

from lincoln_fn.core import Addable, Explicit, Outer, Term
from lincoln_fn.per_example.internal import forms

# How many numbers of gradients are in memory at one time: 4 MiB of float32.
_AT_ONCE = 2**20


@attrs.frozen(eq=False)
class Columns(Addable):
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
        return tuple(Outer(a, b) for a, b in pairs)

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


def explicit(values: Float[Tensor, "K N *shape"]) -> Columns:
    """Make the columns of the gradients themselves."""
    return Columns(tuple(map(Explicit, values)))
