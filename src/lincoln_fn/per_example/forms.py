"""What is computed from the terms of one parameter p, without d itself where its form gives it.

    gradients      d_n
    squared norms  ||d_n||^2
    weighted sum   sum_n w_n d_n
    square sum     sum_n d_n^2    element by element
    gram           <d_n, d_m>

For a dense layer d_n = x_n^T g_n, whose squared norm is ||x_n||^2 ||g_n||^2; `outer.py` derives it,
and `correlation.py` what convolutions take. The norms of several uses of p do not add,

    ||d'_n + d''_n||^2 = ||d'_n||^2 + ||d''_n||^2 + 2 <d'_n, d''_n>

but a sum of outer products is one.
"""

from __future__ import annotations

from functools import reduce
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Correlation, Explicit, Gather, Outer, Term
from lincoln_fn.per_example import correlation, outer

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
            return outer.gather(term, p)
        case Correlation():
            return correlation.gradients(term, p)
    raise TypeError(f"no gradients of {term}")


def measure(term: Term, p: Tensor) -> tuple[Float[Tensor, " N"], Term]:
    """Compute the squared norms, and return the term, with d if that was needed."""
    match term:
        case Explicit():
            return _rows(term).square().sum(1), term
        case Correlation() if correlation.has_few_positions(term, p):
            factors = Outer(term.g.flatten(2).mT, correlation.windows(term, p))
            norms = outer.squared_norms((factors,), p)
        case _:
            norms = outer.squared_norms(term.uses, p)
    return measure(Explicit(gradients(term, p)), p) if norms is None else (norms, term)


def gram(term: Term, p: Tensor) -> Float[Tensor, "N N"]:
    """Compute <d_n, d_m> for all pairs, from the factors of outer products if they are smaller."""
    if isinstance(term, Outer):
        rows = term.x.shape[1]
        if rows == 1 or rows**2 * (term.x.shape[-1] + term.g.shape[-1]) < p.numel():
            return outer.gram(term)
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
            return outer.weighted_sum(term, p, weights)
        case Gather():
            return outer.scatter(term.index, term.g * weights[:, None, None], tuple(p.shape))
        case Correlation():
            scaled = term.g * weights.reshape(-1, *(1,) * (term.g.ndim - 1))
            return correlation.correlate(scaled, term.x, p, term)
    raise TypeError(f"no weighted sum of {term}")


def square_sum(term: Term, p: Tensor) -> Float[Tensor, "*shape"]:
    """Compute sum_n d_n^2, of a few examples after the other, to save memory."""
    if isinstance(term, Explicit):
        return term.values.square().sum(0)
    if isinstance(term, Outer) and term.x.shape[1] == 1:  # sum_n (x_n^2)^T g_n^2
        return (term.x.squeeze(1).square().mT @ term.g.squeeze(1).square()).reshape(p.shape)
    few = max(1, _AT_ONCE // max(1, p.numel()))
    parts = [slice(start, start + few) for start in range(0, max(term.count, 1), few)]
    each = (gradients(term.map(lambda leaf, part=part: leaf[part]), p) for part in parts)
    return reduce(torch.add, [d.square().sum(0) for d in each])


def _rows(term: Explicit) -> Float[Tensor, "N size"]:
    return term.values.flatten(1) if term.values.ndim > 1 else term.values.unsqueeze(1)
