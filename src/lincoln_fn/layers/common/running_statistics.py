"""Batch and instance norm by their running statistics, as after training.

Derivation. The statistics do not depend on x, so each channel is an affine map of its own:

    rstd = 1 / sqrt(var + epsilon)
    hat x = (x - mean) rstd
    y = hat x w + b

    dx = g w rstd
    dw = sum g hat x    over examples and positions
    db = sum g    over examples and positions

A layer that tracks no statistics normalises by those of x, here too.

Cache: x_hat in x's dtype; rstd, one number per channel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import check_cache, check_cotangent, check_input, check_params, declare, record
from lincoln_fn.layers.common.normalisation import (
    Running,
    affine_grads,
    affine_terms,
    scale_and_shift,
    standardise_by,
    widened,
)
from lincoln_fn.layers.common.shapes import Instances


@record
class Cache:
    """The normalised input, each channel's rstd, and which axis counts channels."""

    x_hat: Instances
    rstd: Float[Tensor, " channels"]
    axis: int = core.static()


@attrs.frozen(eq=False)
class Norm:
    """What differs between the two normalisations: their functions, and the channels' axis."""

    name: str
    # Any: each has params, caches and hyperparameters of its own.
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    params: type[Any]
    axis_of: Callable[..., int]


def forward(
    params: Any,  # Any: the params of either normalisation
    x: Instances,
    *,
    norm: Norm,
    eps: float,
    momentum: float | None,
    spatial_axes: int | None,
) -> tuple[Instances, Any]:  # Any: a cache of here, or of there
    """Compute y = x_hat w + b with x_hat = (x - mean) rstd, by the running statistics."""
    running: Running | None = getattr(params, "running", None)
    if running is None:
        y, cache = norm.forward(params, x, eps=eps, momentum=momentum, spatial_axes=spatial_axes)
        return y, cache
    check_input(norm.name, params, x, norm.params)
    axis = norm.axis_of(x, params.weight, params.bias, running, spatial_axes)
    places = x.ndim - 1 - axis
    x_hat, rstd = standardise_by(running, x, eps, places)
    y = scale_and_shift(x_hat, params.weight, params.bias, places).to(x.dtype)
    return y, Cache(x_hat.to(x.dtype), rstd, axis)


def backward(
    params: Any,  # Any: as in forward
    cache: Any,
    g: Instances,
    *,
    norm: Norm,
) -> tuple[Instances, Any]:
    """Compute dx = g w rstd, dw and db."""
    check_params(norm.name, params, norm.params)
    if params.running is None:
        dx, dparams = norm.backward(params, cache, g)
        return dx, dparams
    check_cache(norm.name, cache, Cache)
    check_cotangent(norm.name, g, cache.x_hat)
    places = g.ndim - 1 - cache.axis
    dy = widened(g)
    dx_hat = scale_and_shift(dy, params.weight, None, places)
    dx = scale_and_shift(dx_hat, cache.rstd, None, places)
    shared = (*range(cache.axis), *range(cache.axis + 1, g.ndim))
    dw, db = affine_grads(dy, widened(cache.x_hat), params.weight, params.bias, shared)
    return dx.to(g.dtype), norm.params(dw, db, params.running)


# Any: as in forward.
def terms(params: Any, cache: Any, g: Tensor) -> Any:
    """Return dw_n = sum of g x_hat and db_n = sum of g, over the positions of example n."""
    axis = cache.axis if isinstance(cache, Cache) else cache.mean.ndim - 1
    return affine_terms(params, cache.x_hat, g, (axis,))


declare(forward, backward, kind="norm", terms=terms)


def inference_forms(norm: Norm) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return forward and backward of a normalisation as after training."""
    return partial(forward, norm=norm), partial(backward, norm=norm)
