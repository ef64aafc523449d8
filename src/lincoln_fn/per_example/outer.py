"""Gradients that are sums of outer products, and their norms without them.

A dense layer's gradient for example n is a sum over the rows t of its input, such as the positions
of a sequence:

    d_n = sum_t x_(nt)^T g_(nt)

Derivation of the norm. The inner product of two outer products is a product of inner products:

    <x_t^T g_t, x_s^T g_s> = sum_(ij) x_(ti) g_(tj) x_(si) g_(sj) = (x_t . x_s) (g_t . g_s)
    ||d_n||^2 = sum_(t,s) (x_(nt) . x_(ns)) (g_(nt) . g_(ns))
    ||d_n||^2 = ||x_n||^2 ||g_n||^2    for one row

With T rows, and d_n of I times O numbers, this takes T^2 (I + O) multiplications, and d_n itself
T I O. The squared norms are computed the way that takes fewer.

An embedding is a dense layer whose rows x_t are 1 at one index i_t, and 0 elsewhere. So x_t . x_s
is 1 if i_t = i_s and 0 otherwise, and with the row z_s of a dense layer it is z_s at i_t.

Source: Goodfellow, "Efficient Per-Example Gradient Computations", 2015; with rows, Li and others,
"Large Language Models Can Be Strong Differentially Private Learners", 2022, section 4.
"""

from __future__ import annotations

import attrs
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.fastpath import product
from lincoln_fn.per_example.terms import Term


@attrs.frozen(eq=False)
class Factored(Term):
    """A sum of outer products."""

    def measured(self) -> tuple[Float[Tensor, " N"], Term]:
        """Compute the squared norms from the factors, unless d costs less."""
        norms = self.norms_of_sum((self,))
        return super().measured() if norms is None else (norms, self)

    def norms_of_sum(self, terms: tuple[Term, ...]) -> Float[Tensor, " N"] | None:
        """Compute the squared norms of a sum from its factors; None if d costs less."""
        return norms_of_factors(terms)


@attrs.frozen(eq=False)
class Outer(Factored):
    """d_n = sum_t x_nt^T g_nt, in the parameter's shape."""

    x: Float[Tensor, "N T I"]
    g: Float[Tensor, "N T O"]
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.x)

    def part(self, examples: slice) -> Outer:
        """Return the term of some of the examples."""
        return Outer(self.x[examples], self.g[examples], self.shape)

    def to(self, dtype: torch.dtype) -> Outer:
        """Return the term in another dtype."""
        return Outer(self.x.to(dtype), self.g.to(dtype), self.shape)

    def gradients(self) -> Float[Tensor, " N *shape"]:
        """Compute d_n = x_n^T g_n, a product for each example."""
        return (self.x.mT @ self.g).reshape(self.count, *self.shape)

    def weighted_sum(self, weights: Float[Tensor, " N"], like: Tensor) -> Float[Tensor, "*shape"]:
        """Compute sum_n w_n d_n, one product over all rows of all examples."""
        x, g, w = self.x, self.g, weights[:, None, None]
        x, g = (x * w, g) if x.shape[-1] < g.shape[-1] else (x, g * w)
        if g.stride(0) < g.stride(1):  # the steps of a sequence come first in memory
            x, g = x.transpose(0, 1), g.transpose(0, 1)
        matrix = like.reshape(x.shape[-1], g.shape[-1])
        return product.outer(x.flatten(0, 1), g.flatten(0, 1), like=matrix).reshape(self.shape)

    def square_sum(self) -> Float[Tensor, "*shape"]:
        """Compute sum_n d_n^2; for one row an example, sum_n (x_n^2)^T g_n^2."""
        if self.x.shape[1] != 1:
            return super().square_sum()
        squares = self.x.squeeze(1).square().mT @ self.g.squeeze(1).square()
        return squares.reshape(self.shape)


@attrs.frozen(eq=False)
class Rows(Factored):
    """d_n = sum_t of g_nt in row i_nt of zeros."""

    index: Int[Tensor, "N T"]
    g: Float[Tensor, "N T O"]
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.index)

    def part(self, examples: slice) -> Rows:
        """Return the term of some of the examples."""
        return Rows(self.index[examples], self.g[examples], self.shape)

    def to(self, dtype: torch.dtype) -> Rows:
        """Return the term in another dtype."""
        return Rows(self.index, self.g.to(dtype), self.shape)

    def gradients(self) -> Float[Tensor, " N *shape"]:
        """Add up each example's g in the rows of its own table."""
        rows, features = self.shape
        first = torch.arange(self.count, device=self.index.device) * rows
        tables = (self.count * rows, features)
        return _scattered(self.index + first[:, None], self.g, tables).view(-1, *self.shape)

    def weighted_sum(self, weights: Float[Tensor, " N"], like: Tensor) -> Float[Tensor, "*shape"]:
        """Add up w_n g_nt in the rows of one table."""
        return _scattered(self.index, self.g * weights[:, None, None], self.shape)


def _scattered(index: Tensor, g: Tensor, shape: tuple[int, ...]) -> Tensor:
    return g.new_zeros(shape).index_add(0, index.flatten(), g.flatten(0, 1))


def norms_of_factors(terms: tuple[Term, ...]) -> Float[Tensor, " N"] | None:
    """Compute the squared norms of a sum of outer products; None if d is needed, or costs less."""
    outers = [term for term in terms if isinstance(term, Outer)]
    rows = [term for term in terms if isinstance(term, Rows)]
    if len(outers) + len(rows) < len(terms) or not _costs_less(outers, rows):
        return None
    if not rows:
        return _of_outers(outers)
    index, h = (torch.cat([getattr(term, name) for term in rows], 1) for name in ("index", "g"))
    equal = index.unsqueeze(1) == index.unsqueeze(2)
    norms = _total(h @ h.mT * equal)
    if not outers:
        return norms
    z, g = _joined(outers)
    at = z.gather(2, index.unsqueeze(1).expand(-1, z.shape[1], -1))
    return norms + _of_outers(outers) + 2 * _total(g @ h.mT * at)


def _costs_less(outers: list[Outer], rows: list[Rows]) -> bool:
    dense = sum(term.g.shape[1] for term in outers)
    indexed = sum(term.g.shape[1] for term in rows)
    if outers:
        return costs_less(dense, indexed, outers[0].x.shape[-1], outers[0].g.shape[-1])
    return costs_less(0, indexed, rows[0].shape[0], rows[0].shape[1])


def costs_less(dense: int, indexed: int, n_in: int, n_out: int) -> bool:
    """Return whether the inner products of an example's rows take fewer steps than d.

    Example:
        >>> costs_less(8, 0, 64, 32), costs_less(64, 0, 8, 32), costs_less(0, 9, 80, 32)
        (True, False, True)
    """
    if dense + indexed == 1:
        return True
    products = dense * dense * n_in + (dense + indexed) ** 2 * n_out
    # Indexed rows are added to a table of zeros.
    return products <= dense * n_in * n_out + (indexed and (n_in + indexed) * n_out)


def _of_outers(outers: list[Outer]) -> Tensor:
    """Compute sum_(t,s) (x_t . x_s) (g_t . g_s)."""
    x, g = _joined(outers)
    if x.shape[1] == 1:
        return _total(x.square()) * _total(g.square())
    return _total((x @ x.mT) * (g @ g.mT))


def _total(products: Float[Tensor, "N _ _"]) -> Float[Tensor, " N"]:
    return products.flatten(1).sum(1)


def _joined(outers: list[Outer]) -> tuple[Tensor, Tensor]:
    """Put the rows of all uses behind each other."""
    if len(outers) == 1:
        return outers[0].x, outers[0].g
    return torch.cat([term.x for term in outers], 1), torch.cat([term.g for term in outers], 1)
