"""What is computed from the terms of one parameter p, without d_n itself where its form gives it.

A dense layer's gradient is a sum of outer products over the rows t of its input, such as the
positions of a sequence:

    d_n = sum_t x_(nt)^T g_(nt)

Derivation of its norm. The inner product of two outer products is a product of inner products:

    <x_t^T g_t, x_s^T g_s> = sum_(ij) x_(ti) g_(tj) x_(si) g_(sj) = (x_t . x_s) (g_t . g_s)
    ||d_n||^2 = sum_(t,s) (x_(nt) . x_(ns)) (g_(nt) . g_(ns))
    ||d_n||^2 = ||x_n||^2 ||g_n||^2    for one row

With T rows, and d_n of I times O numbers, this takes T^2 (I + O) multiplications, and d_n itself
T I O. The squared norms are computed the way that takes fewer. Those of several uses of p do not
add, but a sum of outer products is one:

    ||d'_n + d''_n||^2 = ||d'_n||^2 + ||d''_n||^2 + 2 <d'_n, d''_n>

An embedding is a dense layer whose rows x_t are 1 at one index i_t, and 0 elsewhere. So x_t . x_s
is 1 if i_t = i_s and 0 otherwise, and with the row z_s of a dense layer it is z_s at i_t.

Derivation for a convolution. Its weight's gradient is a correlation, summed over the examples:

    dW_(o,c)[k] = sum_n sum_p g_(no)[p] x_(nc)[s p + d k]

With the channels of all examples side by side, and each example's channels a group of their own,
one convolution computes all terms. Each is also a sum of outer products, over the positions p, of
g_n[p] and the window of x_n that the kernel sees at p: so squared norms need no dW_n where there
are few positions. In a transposed convolution g and x change roles.

Source: Goodfellow, "Efficient Per-Example Gradient Computations", 2015; with rows, Li and others,
"Large Language Models Can Be Strong Differentially Private Learners", 2022, section 4.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from functools import reduce
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Correlation, Explicit, Gather, Outer, Term
from lincoln_fn.fastpath import product

# How many numbers of gradients a sum over examples has in memory at one time: 16 MiB of float32.
_AT_ONCE: Final = 2**22


def gradients(term: Term, p: Tensor) -> Float[Tensor, " N *shape"]:
    """Compute d."""
    return reduce(torch.add, [_gradients(use, p) for use in term.uses])


def _gradients(term: Term, p: Tensor) -> Float[Tensor, " N *shape"]:
    match term:
        case Explicit():
            return term.values
        case Outer():
            return (term.x.mT @ term.g).reshape(term.count, *p.shape)
        case Gather():
            return _gather(term, p)
        case Correlation():
            return _correlations(term, p)
    raise TypeError(f"no gradients of {term}")


def measure(term: Term, p: Tensor) -> tuple[Float[Tensor, " N"], Term]:
    """Compute the squared norms, and return the term, with d if that was needed."""
    match term:
        case Explicit():
            return _rows(term).square().sum(1), term
        case Correlation(groups=1) if _costs_less(
            math.prod(term.g.shape[2:]), 0, math.prod(p.shape[1:]), len(p)
        ):
            norms = _squared_norms((Outer(term.g.flatten(2).mT, windows(term, p)),), p)
        case _:
            norms = _squared_norms(term.uses, p)
    return measure(Explicit(gradients(term, p)), p) if norms is None else (norms, term)


def gram(term: Term, p: Tensor) -> Float[Tensor, "N N"]:
    """Compute <d_n, d_m> for all pairs, from the factors of outer products if they are smaller."""
    if isinstance(term, Outer):
        rows = term.x.shape[1]
        if rows == 1 or rows**2 * (term.x.shape[-1] + term.g.shape[-1]) < p.numel():
            return _gram_of_outer(term)
    d = gradients(term, p).reshape(term.count, p.numel())
    return d @ d.mT


def weighted_sum(term: Term, p: Tensor, weights: Float[Tensor, " N"]) -> Float[Tensor, "*shape"]:
    """Compute sum_n w_n d_n."""
    return reduce(torch.add, [_weighted_sum(use, p, weights) for use in term.uses])


def _weighted_sum(term: Term, p: Tensor, weights: Float[Tensor, " N"]) -> Float[Tensor, "*shape"]:
    match term:
        case Explicit():
            return (weights @ _rows(term)).reshape(p.shape)
        case Outer():
            return _weighted_outer(term, p, weights)
        case Gather():
            return _scatter(term.index, term.g * weights[:, None, None], tuple(p.shape))
        case Correlation():
            scaled = term.g * weights.reshape(-1, *(1,) * (term.g.ndim - 1))
            return _correlate(scaled, term.x, p, term)
    raise TypeError(f"no weighted sum of {term}")


def square_sum(term: Term, p: Tensor) -> Float[Tensor, "*shape"]:
    """Compute sum_n d_n^2, of a few examples after the other, to save memory."""
    if isinstance(term, Explicit):
        return term.values.square().sum(0)
    if isinstance(term, Outer) and term.x.shape[1] == 1:  # sum_n (x_n^2)^T g_n^2
        return (term.x.squeeze(1).square().mT @ term.g.squeeze(1).square()).reshape(p.shape)
    return reduce(torch.add, [d.square().sum(0) for d in in_parts(term, p)])


def in_parts(term: Term, p: Tensor) -> Iterator[Float[Tensor, " n *shape"]]:
    """Compute d of a few examples after the other."""
    few = max(1, _AT_ONCE // max(1, p.numel()))
    for start in range(0, max(term.count, 1), few):
        part = slice(start, start + few)
        yield gradients(term.map(operator.itemgetter(part)), p)


def _rows(term: Explicit) -> Float[Tensor, "N size"]:
    return term.values.flatten(1) if term.values.ndim > 1 else term.values.unsqueeze(1)


def _correlations(term: Correlation, p: Tensor) -> Float[Tensor, " N *shape"]:
    """Compute dW_n by a convolution in which each example is a group."""
    if not term.count:  # no convolution has 0 groups
        return term.g.new_zeros(0, *p.shape)
    kernels = term.g.new_zeros(()).expand(term.count * len(p), *p.shape[1:])
    g, x = (t.flatten(0, 1).unsqueeze(0) for t in (term.g, term.x))
    each = _correlate(g, x, kernels, term, groups=term.count * term.groups)
    return each.reshape(term.count, *p.shape)


def _correlate(
    g: Tensor, x: Tensor, weight: Tensor, term: Correlation, groups: int | None = None
) -> Float[Tensor, "*shape"]:
    """Compute sum_n sum_p g_no[p] x_nc[s p + d k], by ATen's kernel."""
    zeros = [0] * len(term.stride)
    dweight: Tensor = torch.ops.aten.convolution_backward(
        g, x, weight.to(g.dtype), None, term.stride, zeros, term.dilation, False, zeros,
        groups or term.groups, (False, True, False),
    )[1]  # fmt: skip
    return dweight


def windows(term: Correlation, p: Tensor) -> Float[Tensor, "N positions window"]:
    """Put what the kernel sees at each position into a row."""
    x, positions, kernel = term.x.contiguous(), term.g.shape[2:], p.shape[2:]
    batch, channels, *axes = x.stride()
    steps = [s * axis for s, axis in zip(term.stride, axes, strict=True)]
    places = [d * axis for d, axis in zip(term.dilation, axes, strict=True)]
    sizes = (len(x), *positions, x.shape[1], *kernel)
    seen = x.as_strided(sizes, (batch, *steps, channels, *places))
    return seen.reshape(len(x), math.prod(positions), math.prod(p.shape[1:]))


def _gather(term: Gather, p: Tensor) -> Float[Tensor, " N *shape"]:
    """Add up each example's g in the rows of its own table."""
    rows, features = p.shape
    first = torch.arange(term.count, device=term.index.device) * rows
    tables = _scatter(term.index + first[:, None], term.g, (term.count * rows, features))
    return tables.view(-1, rows, features)


def _scatter(index: Tensor, g: Tensor, shape: tuple[int, ...]) -> Tensor:
    return g.new_zeros(shape).index_add(0, index.flatten(), g.flatten(0, 1))


def _weighted_outer(term: Outer, p: Tensor, weights: Tensor) -> Tensor:
    """Compute sum_n w_n d_n, one product over all rows of all examples."""
    x, g, w = term.x, term.g, weights[:, None, None]
    x, g = (x * w, g) if x.shape[-1] < g.shape[-1] else (x, g * w)
    if g.stride(0) < g.stride(1):  # the steps of a sequence come first in memory
        x, g = x.transpose(0, 1), g.transpose(0, 1)
    matrix = p.reshape(x.shape[-1], g.shape[-1])
    return product.outer(x.flatten(0, 1), g.flatten(0, 1), like=matrix).reshape(p.shape)


def _squared_norms(terms: tuple[Term, ...], p: Tensor) -> Float[Tensor, " N"] | None:
    """Compute the squared norms of a sum of outer products; None if d is needed, or costs less."""
    outers = [term for term in terms if isinstance(term, Outer)]
    rows = [term for term in terms if isinstance(term, Gather)]
    if len(outers) + len(rows) < len(terms):
        return None
    dense, indexed = (sum(term.g.shape[1] for term in some) for some in (outers, rows))
    n_out = (outers or rows)[0].g.shape[-1]
    if not _costs_less(dense, indexed, p.numel() // max(n_out, 1), n_out):
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


def _gram_of_outer(term: Outer) -> Float[Tensor, "N N"]:
    """Compute <d_n, d_m> = sum_(t,s) (x_nt . x_ms) (g_nt . g_ms)."""
    count, rows = term.x.shape[:2]
    x, g = term.x.flatten(0, 1), term.g.flatten(0, 1)
    products = (x @ x.mT) * (g @ g.mT)
    return products.reshape(count, rows, count, rows).sum((1, 3))


def _costs_less(dense: int, indexed: int, n_in: int, n_out: int) -> bool:
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
    if len(outers) == 1:
        return outers[0].x, outers[0].g
    return torch.cat([term.x for term in outers], 1), torch.cat([term.g for term in outers], 1)
