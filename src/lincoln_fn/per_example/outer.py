"""Sums of outer products: their norms without the gradients, and their weighted sums.

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

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Gather, Outer, Term
from lincoln_fn.fastpath import product


def gather(term: Gather, p: Tensor) -> Float[Tensor, " N *shape"]:
    """Add up each example's g in the rows of its own table."""
    rows, features = p.shape
    first = torch.arange(term.count, device=term.index.device) * rows
    tables = scatter(term.index + first[:, None], term.g, (term.count * rows, features))
    return tables.view(-1, rows, features)


def scatter(index: Tensor, g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Add up rows of g in the rows of zeros."""
    return g.new_zeros(shape).index_add(0, index.flatten(), g.flatten(0, 1))


def weighted_sum(term: Outer, p: Tensor, weights: Float[Tensor, " N"]) -> Float[Tensor, "*shape"]:
    """Compute sum_n w_n d_n, one product over all rows of all examples."""
    x, g, w = term.x, term.g, weights[:, None, None]
    x, g = (x * w, g) if x.shape[-1] < g.shape[-1] else (x, g * w)
    if g.stride(0) < g.stride(1):  # the steps of a sequence come first in memory
        x, g = x.transpose(0, 1), g.transpose(0, 1)
    matrix = p.reshape(x.shape[-1], g.shape[-1])
    return product.outer(x.flatten(0, 1), g.flatten(0, 1), like=matrix).reshape(p.shape)


def squared_norms(terms: tuple[Term, ...], p: Tensor) -> Float[Tensor, " N"] | None:
    """Compute the squared norms of a sum of outer products; None if d is needed, or costs less."""
    outers = [term for term in terms if isinstance(term, Outer)]
    rows = [term for term in terms if isinstance(term, Gather)]
    if len(outers) + len(rows) < len(terms):
        return None
    dense, indexed = (sum(term.g.shape[1] for term in some) for some in (outers, rows))
    n_out = (outers or rows)[0].g.shape[-1]
    if not costs_less(dense, indexed, p.numel() // max(n_out, 1), n_out):
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


def gram(term: Outer) -> Float[Tensor, "N N"]:
    """Compute <d_n, d_m> = sum_(t,s) (x_nt . x_ms) (g_nt . g_ms)."""
    count, rows = term.x.shape[:2]
    x, g = term.x.flatten(0, 1), term.g.flatten(0, 1)
    products = (x @ x.mT) * (g @ g.mT)
    return products.reshape(count, rows, count, rows).sum((1, 3))


def costs_less(dense: int, indexed: int, n_in: int, n_out: int) -> bool:
    """Return whether the inner products of an example's rows take fewer steps than d."""
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
