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
from typing import NamedTuple, TypeAlias

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Instances, check_cache, check_input, check_params, declare, record
from lincoln_fn.layers.common import normalisation
from lincoln_fn.layers.common.normalisation import Running, scale_and_shift, widened

# Of either normalisation, which has params, caches and hyperparameters of its own.
There: TypeAlias = Callable[..., tuple[Tensor, core.Cache]]
Back: TypeAlias = Callable[..., tuple[Tensor, core.Params]]


@record
class Cache:
    """The normalised input, each channel's rstd, and which axis counts channels."""

    x_hat: Instances
    rstd: Float[Tensor, " channels"]
    axis: int = core.static()


class Norm(NamedTuple):
    """What differs between the two normalisations: their functions, and the channels' axis."""

    name: str
    forward: There
    backward: Back
    params: type[core.Params]
    axis_of: Callable[..., int]


def forward(
    params: core.Params, x: Instances, *, norm: Norm, eps: float, momentum: float | None,
    spatial_axes: int | None,
) -> tuple[Instances, core.Cache]:  # fmt: skip
    """Compute y = x_hat w + b with x_hat = (x - mean) rstd, by the running statistics."""
    running: Running | None = getattr(params, "running", None)
    if running is None:
        return norm.forward(params, x, eps=eps, momentum=momentum, spatial_axes=spatial_axes)
    check_input(norm.name, params, x, norm.params)
    axis = norm.axis_of(params, x, spatial_axes)
    places = x.ndim - 1 - axis
    shape = (-1, *(1,) * places)
    rstd = (widened(running.var) + eps).rsqrt()
    x_hat = (widened(x) - running.mean.reshape(shape)) * rstd.reshape(shape)
    y = scale_and_shift(x_hat, params.weight, params.bias, places).to(x.dtype)
    return y, Cache(x_hat.to(x.dtype), rstd, axis)


def backward(
    params: core.Params, cache: core.Cache, g: Instances, *, norm: Norm
) -> tuple[Instances, core.Params]:
    """Compute dx = g w rstd, dw and db."""
    check_params(norm.name, params, norm.params)
    if params.running is None:
        return norm.backward(params, cache, g)
    check_cache(norm.name, cache, Cache)
    core.check_cotangent(norm.name, g, cache.x_hat)
    dx_hat, dparams = normalisation.affine_backward(params, cache.x_hat, g, (cache.axis,))
    return scale_and_shift(dx_hat, cache.rstd, None, g.ndim - 1 - cache.axis).to(g.dtype), dparams


def terms(params: core.Params, cache: core.Cache, g: Tensor) -> core.Params:
    """Return dw_n = sum of g x_hat and db_n = sum of g, over the positions of example n."""
    axis = cache.axis if isinstance(cache, Cache) else cache.mean.ndim - 1
    return normalisation.affine_terms(params, cache.x_hat, g, (axis,))


declare(forward, backward, kind="norm", terms=terms)


def inference_forms(norm: Norm) -> tuple[There, Back]:
    """Return forward and backward of a normalisation as after training."""
    forward_, backward_ = (core.shape_checked(f, norm.name) for f in (norm.forward, norm.backward))
    norm = norm._replace(forward=forward_, backward=backward_)
    return partial(forward, norm=norm), partial(backward, norm=norm)
