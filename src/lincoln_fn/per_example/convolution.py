"""Convolutions: the correlation of each example's input with its g.

Derivation. The gradient of a convolution's weight is a correlation, summed over the examples:

    dW_(o,c)[k] = sum_n sum_p g_(no)[p] x_(nc)[s p + d k]

The term of example n is that of a batch of one. With the channels of all examples side by side, and
each example's channels a group of their own, one convolution computes all terms.

It is also a sum of outer products, over the positions p, of g_n[p] and the window of x_n that the
kernel sees at p. So `outer.py` gives the squared norms without dW_n where there are few positions.
In a transposed convolution g and x change roles.

The network of fast functions has the correlation from ATen's kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.fastpath import convolution as fast_conv
from lincoln_fn.layers import _conv, _padding, conv, conv_transpose
from lincoln_fn.layers._conv import Geometry
from lincoln_fn.layers._normalisation import widened
from lincoln_fn.per_example.checks import no_batch
from lincoln_fn.per_example.outer import Outer, costs_less
from lincoln_fn.per_example.terms import Explicit, Term
from lincoln_fn.record import evolve

# (g, x, weight, geometry) -> dW, as `_conv.weight_gradient`.
Correlate: TypeAlias = Callable[[Tensor, Tensor, Tensor, Geometry], Tensor]


@attrs.frozen(eq=False)
class Correlation(Term):
    """dW_(n,o,c)[k] = sum_p g_no[p] x_nc[s p + d k], by its factors."""

    g: Float[Tensor, "N out_channels *positions"]
    x: Float[Tensor, "N in_channels *spatial"]
    weight: Float[Tensor, "out_channels group_channels *kernel"]
    geometry: Geometry
    correlate: Correlate

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""
        return tuple(self.weight.shape)

    def part(self, examples: slice) -> Correlation:
        """Return the term of some of the examples."""
        return attrs.evolve(self, g=self.g[examples], x=self.x[examples])

    def to(self, dtype: torch.dtype) -> Correlation:
        """Return the term in another dtype."""
        g, x, weight = (t.to(dtype) for t in (self.g, self.x, self.weight))
        return attrs.evolve(self, g=g, x=x, weight=weight)

    def gradients(self) -> Float[Tensor, " N *shape"]:
        """Compute dW_n by a convolution in which each example is a group."""
        if not self.count:  # no convolution has 0 groups
            return self.weight.new_zeros(0, *self.shape)
        geometry = self.geometry._replace(groups=self.count * self.geometry.groups)
        kernels = self.weight.new_zeros(()).expand(self.count * self.shape[0], *self.shape[1:])
        g, x = (t.flatten(0, 1).unsqueeze(0) for t in (self.g, self.x))
        return self.correlate(g, x, kernels, geometry).reshape(self.count, *self.shape)

    def measured(self) -> tuple[Float[Tensor, " N"], Term]:
        """Compute the squared norms from the windows, if there are few positions."""
        positions, n_in = math.prod(self.g.shape[2:]), math.prod(self.shape[1:])
        if self.geometry.groups > 1 or not costs_less(positions, 0, n_in, self.shape[0]):
            return super().measured()
        norms, _ = Outer(self.g.flatten(2).mT, self.windows(), self.shape).measured()
        return norms, self

    def weighted_sum(self, weights: Float[Tensor, " N"], like: Tensor) -> Float[Tensor, "*shape"]:
        """Compute sum_n w_n dW_n, the correlation of w_n g_n with x."""
        scaled = self.g * weights.reshape(-1, *(1,) * (self.g.ndim - 1))
        return self.correlate(scaled, self.x, self.weight, self.geometry)

    def windows(self) -> Float[Tensor, "N positions window"]:
        """Put what the kernel sees at each position into a row."""
        x, (stride, dilation, _) = self.x.contiguous(), self.geometry
        batch, channels, *axes = x.stride()
        steps = [s * axis for s, axis in zip(stride, axes, strict=True)]
        places = [d * axis for d, axis in zip(dilation, axes, strict=True)]
        sizes = (len(x), *self.g.shape[2:], x.shape[1], *self.shape[2:])
        seen = x.as_strided(sizes, (batch, *steps, channels, *places))
        return seen.reshape(len(x), math.prod(self.g.shape[2:]), math.prod(self.shape[1:]))


def terms(params: conv.Params, cache: conv.Cache, g: Tensor) -> conv.Params:
    """Return the terms of W and b of a convolution."""
    return _terms(params, g, cache.x, g, cache.geometry, _conv.weight_gradient)


def transposed_terms(
    params: conv_transpose.Params, cache: conv_transpose.Cache, g: Tensor
) -> conv_transpose.Params:
    """Return the terms of W and b of a transposed convolution."""
    sides = zip(cache.padding, cache.output_padding, strict=True)
    padded = _padding.pad(g, tuple((q, q - more) for q, more in sides), "constant")
    return _terms(params, cache.x, padded, g, cache.geometry, _conv.weight_gradient)


def fast_terms(params: conv.Params, cache: fast_conv.Cache, g: Tensor) -> conv.Params:
    """Return the terms of W and b of a convolution by ATen's kernel."""
    stride, padding, dilation, _, _, groups = cache.arguments
    x = _padding.pad(cache.x, tuple((q, q) for q in padding), "constant")
    return _terms(params, g, x, g, Geometry(stride, dilation, groups), _by_kernel)


P = TypeVar("P", conv.Params, conv_transpose.Params)


def _terms(
    params: P, g: Tensor, x: Tensor, dy: Tensor, geometry: Geometry, correlate: Correlate
) -> P:
    """Return the terms of the correlation of x with g, and of the sum of dy over positions."""
    if dy.ndim < params.weight.ndim:
        raise no_batch(_conv.named("conv", params.weight), dy)
    weight = Correlation(g, x, params.weight, geometry, correlate)
    bias = None if params.bias is None else Explicit(widened(dy).flatten(2).sum(2))
    return evolve(params, weight=weight, bias=bias)


def _by_kernel(g: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Compute what `_conv.weight_gradient` does, by ATen's kernel."""
    stride, dilation, groups = geometry
    zeros = [0] * len(stride)
    dweight: Tensor = torch.ops.aten.convolution_backward(
        g, x, weight, None, stride, zeros, dilation, False, zeros, groups, (False, True, False)
    )[1]
    return dweight
