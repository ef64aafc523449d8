"""Correlations: the gradient of a kernel for each example, and the windows that it sees.

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

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Correlation
from lincoln_fn.per_example.outer import costs_less


def gradients(term: Correlation, p: Tensor) -> Float[Tensor, " N *shape"]:
    """Compute dW_n by a convolution in which each example is a group."""
    if not term.count:  # no convolution has 0 groups
        return term.g.new_zeros(0, *p.shape)
    kernels = term.g.new_zeros(()).expand(term.count * len(p), *p.shape[1:])
    g, x = (t.flatten(0, 1).unsqueeze(0) for t in (term.g, term.x))
    each = correlate(g, x, kernels, term, groups=term.count * term.groups)
    return each.reshape(term.count, *p.shape)


def correlate(
    g: Tensor, x: Tensor, weight: Tensor, term: Correlation, groups: int | None = None
) -> Float[Tensor, "*shape"]:
    """Compute sum_n sum_p g_no[p] x_nc[s p + d k], by ATen's kernel."""
    zeros = [0] * len(term.stride)
    dweight: Tensor = torch.ops.aten.convolution_backward(
        g, x, weight.to(g.dtype), None, term.stride, zeros, term.dilation, False, zeros,
        groups or term.groups, (False, True, False),
    )[1]  # fmt: skip
    return dweight


def has_few_positions(term: Correlation, p: Tensor) -> bool:
    """Return whether the squared norms cost less from the windows than from dW_n."""
    positions, n_in = math.prod(term.g.shape[2:]), math.prod(p.shape[1:])
    return term.groups == 1 and costs_less(positions, 0, n_in, len(p))


def windows(term: Correlation, p: Tensor) -> Float[Tensor, "N positions window"]:
    """Put what the kernel sees at each position into a row."""
    x, positions, kernel = term.x.contiguous(), term.g.shape[2:], p.shape[2:]
    batch, channels, *axes = x.stride()
    steps = [s * axis for s, axis in zip(term.stride, axes, strict=True)]
    places = [d * axis for d, axis in zip(term.dilation, axes, strict=True)]
    sizes = (len(x), *positions, x.shape[1], *kernel)
    seen = x.as_strided(sizes, (batch, *steps, channels, *places))
    return seen.reshape(len(x), math.prod(positions), math.prod(p.shape[1:]))
