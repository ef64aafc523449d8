"""What is computed from the terms of one parameter p, without d itself where its form gives it.

    gradients      d_n
    squared norms  ||d_n||^2
    weighted sum   sum_n w_n d_n
    square sum     sum_n d_n^2    element by element
    gram           <d_n, d_m>

For a dense layer d_n = x_n^T g_n, whose squared norm is ||x_n||^2 ||g_n||^2; `outer.py` derives it.
The norms of several uses of p do not add,

    ||d'_n + d''_n||^2 = ||d'_n||^2 + ||d''_n||^2 + 2 <d'_n, d''_n>

but a sum of outer products is one.

Derivation. The gradient of a convolution's weight is a correlation, summed over the examples:

    dW_(o,c)[k] = sum_n sum_p g_(no)[p] x_(nc)[s p + d k]

The term of example n is that of a batch of one. With the channels of all examples side by side, and
each example's channels a group of their own, one convolution computes all terms.

It is also a sum of outer products, over the positions p, of g_n[p] and the window of x_n that the
kernel sees at p. So `outer.py` gives the squared norms without dW_n where there are few positions.
In a transposed convolution g and x change roles.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Correlation, Explicit, Gather, Outer, Term
from lincoln_fn.per_example import outer

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
            return _correlations(term, p)
    raise TypeError(f"no gradients of {term}")


def measure(term: Term, p: Tensor) -> tuple[Float[Tensor, " N"], Term]:
    """Compute the squared norms, and return the term, with d if that was needed."""
    match term:
        case Explicit():
            return _rows(term).square().sum(1), term
        case Correlation() if _has_few_positions(term, p):
            factors = Outer(term.g.flatten(2).mT, windows(term, p))
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
            return _correlate(scaled, term.x, p, term)
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


def _has_few_positions(term: Correlation, p: Tensor) -> bool:
    """Return whether the squared norms cost less from the windows than from dW_n."""
    positions, n_in = math.prod(term.g.shape[2:]), math.prod(p.shape[1:])
    return term.groups == 1 and outer.costs_less(positions, 0, n_in, len(p))


def windows(term: Correlation, p: Tensor) -> Float[Tensor, "N positions window"]:
    """Put what the kernel sees at each position into a row."""
    x, positions, kernel = term.x.contiguous(), term.g.shape[2:], p.shape[2:]
    batch, channels, *axes = x.stride()
    steps = [s * axis for s, axis in zip(term.stride, axes, strict=True)]
    places = [d * axis for d, axis in zip(term.dilation, axes, strict=True)]
    sizes = (len(x), *positions, x.shape[1], *kernel)
    seen = x.as_strided(sizes, (batch, *steps, channels, *places))
    return seen.reshape(len(x), math.prod(positions), math.prod(p.shape[1:]))
