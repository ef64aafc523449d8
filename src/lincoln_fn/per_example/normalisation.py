"""Normalisations: g times the normalised input, summed for each example.

With hat x as each layer's page derives it, and the sums over an example's positions that share w_j,

    dw_j = sum g hat x
    db_j = sum g

The fast functions of layer norm and group norm keep x, its mean and rstd:

    hat x = (x - mean) rstd
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from lincoln_fn.fastpath import normalisation as fast
from lincoln_fn.layers import _by_running, group_norm, instance_norm
from lincoln_fn.layers._normalisation import sum_over, widened
from lincoln_fn.per_example.checks import no_batch
from lincoln_fn.per_example.terms import Explicit
from lincoln_fn.record import evolve


# Any, here and below: the params and the cache of layer norm or RMS norm.
def row_terms(params: Any, cache: Any, g: Tensor) -> Any:
    """Return the terms of w and b where each position in a row has its own."""
    return _terms(params, cache.x_hat, g, _last(cache.axes, g))


def channel_terms(params: Any, cache: Any, g: Tensor) -> Any:
    """Return the terms of w and b where each channel on axis 1 has its own."""
    return _terms(params, cache.x_hat, g, (1,))


def instance_terms(params: Any, cache: instance_norm.Cache | _by_running.Cache, g: Tensor) -> Any:
    """Return the terms of w and b by the statistics of each example, or by running ones."""
    axis = cache.axis if isinstance(cache, _by_running.Cache) else cache.mean.ndim - 1
    return _terms(params, cache.x_hat, g, (axis,))


def fast_row_terms(params: Any, cache: fast.LayerCache, g: Tensor) -> Any:
    """Return the terms of w and b from the cache of ATen's layer norm."""
    x_hat = (widened(cache.x) - cache.mean) * cache.rstd
    return _terms(params, x_hat, g, _last(cache.axes, g))


def fast_channel_terms(params: Any, cache: fast.GroupCache | group_norm.Cache, g: Tensor) -> Any:
    """Return the terms of w and b from the cache of ATen's group norm, or of the formula."""
    if isinstance(cache, group_norm.Cache):
        return channel_terms(params, cache, g)
    groups = cache.mean.shape[1]
    in_groups = widened(cache.x).reshape(*cache.mean.shape, math.prod(cache.x.shape[1:]) // groups)
    x_hat = (in_groups - cache.mean.unsqueeze(-1)) * cache.rstd.unsqueeze(-1)
    return _terms(params, x_hat.reshape(cache.x.shape), g, (1,))


def _last(axes: int, g: Tensor) -> tuple[int, ...]:
    return tuple(range(g.ndim - axes, g.ndim))


def _terms(params: Any, x_hat: Tensor, g: Tensor, axes: tuple[int, ...]) -> Any:
    """Return the terms of w and b, which have the given axes of x."""
    if 0 in axes:
        raise no_batch(params.__class__.__module__.rpartition(".")[2], g)
    shared = tuple(axis for axis in range(1, g.ndim) if axis not in axes)
    dy = widened(g)
    products = {"weight": dy * widened(x_hat), "bias": dy}
    return evolve(
        params,
        **{
            name: Explicit(sum_over(values, shared).reshape(len(g), *getattr(params, name).shape))
            for name, values in products.items()
            if getattr(params, name, None) is not None
        },
    )
