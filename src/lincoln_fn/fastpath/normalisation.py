"""Batch norm, layer norm and group norm by ATen's fused kernels.

A kernel reads x twice and writes y once; the formula makes a tensor for each of its terms. The
kernel computes x rstd - mean rstd: where the mean is many standard deviations, as of a constant x,
it loses digits that the formula keeps. So there, on a processor, the formula takes its place.

Forward and backward together took 0.23 of the formula's time with one thread and 0.14 with two for
layer norm of (64, 128, 512), and as much for group norm of (32, 64, 32, 32). RMS norm and local
response norm have no faster kernel. Instance norm, which is rare, has no row.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Channels, Rows, Sizes
from lincoln_fn.fastpath.twin import Argument, Function, Twin, unless_transformed
from lincoln_fn.layers import batch_norm, group_norm, layer_norm
from lincoln_fn.layers.common import inputs as checks
from lincoln_fn.layers.common.normalisation import moved

# A mean of this many standard deviations costs a kernel a digit or two.
_MOST: Final = 30.0
MOST_VALUES: Final = 2**16


def loses_digits(mean: Tensor, rstd: Tensor) -> bool:
    """Return whether a kernel has lost digits to a large mean; only where that can be read."""
    is_read = mean.device.type == "cpu" and core.is_plain(mean) and mean.numel() > 0
    return is_read and not core.is_between(
        0, torch.linalg.vector_norm(mean * rstd, torch.inf), _MOST
    )


def gradients(
    kernel: Function, params: Argument, *arguments: Argument
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Compute dx, and dw and db of what there is: under jvp a kernel returns all of them."""
    has_weight, has_bias = params.weight is not None, params.bias is not None
    dx, dweight, dbias = kernel(*arguments, [True, has_weight, has_bias])
    return dx, dweight if has_weight else None, dbias if has_bias else None


@core.record
class LayerCache:
    """The input of layer norm, its rows' mean and rstd, and how many axes make a row."""

    x: Rows
    mean: Float[Tensor, "*batch_and_ones"]
    rstd: Float[Tensor, "*batch_and_ones"]
    axes: int = core.static()
    eps: float = core.static()


def to_layer_norm_cache(
    params: layer_norm.Params, cache: LayerCache | layer_norm.Cache
) -> layer_norm.Cache:
    """Normalise the input by the formula, unless it has done so."""
    if isinstance(cache, layer_norm.Cache):
        return cache
    sizes = cache.x.shape[cache.x.ndim - cache.axes :]
    return layer_norm.forward(params, cache.x, normalized_shape=sizes, eps=cache.eps)[1]


@unless_transformed(layer_norm.forward)  # its second derivative in forward mode is wrong
def layer_forward(
    params: layer_norm.Params, x: Rows, *, normalized_shape: int | Sizes = -1, eps: float = 1e-5
) -> tuple[Tensor, LayerCache | layer_norm.Cache]:
    """Compute layer norm."""
    sizes = checks.trailing_sizes("layer_norm", params, x, normalized_shape)
    y, mean, rstd = torch.ops.aten.native_layer_norm(x, sizes, params.weight, params.bias, eps)
    if loses_digits(mean, rstd):
        return layer_norm.forward(params, x, normalized_shape=normalized_shape, eps=eps)
    return y, LayerCache(x, mean, rstd, len(sizes), eps)


@unless_transformed(layer_norm.backward, LayerCache)
def layer_backward(
    params: layer_norm.Params, cache: LayerCache, g: Rows
) -> tuple[Tensor, layer_norm.Params]:
    """Compute dx, dw and db of layer norm."""
    x = cache.x
    own = g, x, x.shape[x.ndim - cache.axes :], cache.mean, cache.rstd, params.weight, params.bias
    dx, *dparams = gradients(torch.ops.aten.native_layer_norm_backward, params, *own)
    return dx, layer_norm.Params(*dparams)


@core.record
class GroupCache:
    """The input in contiguous order, and its groups' mean and rstd."""

    x: Channels
    mean: Float[Tensor, "batch groups"]
    rstd: Float[Tensor, "batch groups"]
    eps: float = core.static()


def to_group_norm_cache(
    params: group_norm.Params, cache: GroupCache | group_norm.Cache, *_: Tensor
) -> group_norm.Cache:
    """Normalise the input by the formula, unless it has done so."""
    if isinstance(cache, group_norm.Cache):
        return cache
    return group_norm.forward(params, cache.x, num_groups=cache.mean.shape[1], eps=cache.eps)[1]


@unless_transformed(group_norm.forward)
def group_forward(
    params: group_norm.Params, x: Channels, *, num_groups: int, eps: float = 1e-5
) -> tuple[Tensor, GroupCache | group_norm.Cache]:
    """Compute group norm; of an empty x, whose gradients the kernel has wrong, by the formula."""
    checks.check_grouped(params, x, num_groups)
    if x.numel() == 0:
        return group_norm.forward(params, x, num_groups=num_groups, eps=eps)
    # For channels-last the kernel computes the variance as the mean of x^2 minus the square of the
    # mean. If the mean is large, rounding errors exceed the variance.
    x = x.contiguous()
    batch, channels, area = x.shape[0], x.shape[1], x.shape[2:].numel()
    y, mean, rstd = torch.ops.aten.native_group_norm(
        x, params.weight, params.bias, batch, channels, area, num_groups, eps
    )
    if loses_digits(mean, rstd):
        return group_norm.forward(params, x, num_groups=num_groups, eps=eps)
    mean, rstd = (of_group.view(batch, num_groups) for of_group in (mean, rstd))
    return y, GroupCache(x, mean, rstd, eps)


@unless_transformed(group_norm.backward, GroupCache, to_group_norm_cache)
def group_backward(
    params: group_norm.Params, cache: GroupCache, g: Channels
) -> tuple[Tensor, group_norm.Params]:
    """Compute dx, dw and db of group norm."""
    x, mean, rstd = cache.x, cache.mean, cache.rstd
    batch, channels, area = x.shape[0], x.shape[1], x.shape[2:].numel()
    own = g.contiguous(), x, mean, rstd, params.weight, batch, channels, area, mean.shape[1]
    dx, *dparams = gradients(torch.ops.aten.native_group_norm_backward, params, *own)
    return dx, group_norm.Params(*dparams)


@core.record
class BatchCache:
    """The input as the kernel had it, each channel's statistics, x's shape, hyperparameters."""

    x: Float[Tensor, "batch channels *spatial"] | Float[Tensor, "1 channels values"]
    mean: Float[Tensor, " channels"]
    rstd: Float[Tensor, " channels"]
    var: Float[Tensor, " channels"]
    shape: tuple[int, ...] = core.static()
    eps: float = core.static()
    momentum: float | None = core.static()


def to_batch_norm_cache(
    params: batch_norm.Params, cache: BatchCache, g: Tensor
) -> batch_norm.Cache:
    """Normalise the input by the formula."""
    x, eps, momentum = _in_shape(cache.x, cache.shape), cache.eps, cache.momentum
    return batch_norm.forward(params, x, eps=eps, momentum=momentum, spatial_axes=None)[1]


@unless_transformed(batch_norm.forward)
def batch_forward(
    params: batch_norm.Params, x: Channels, *, eps: float = 1e-5, momentum: float | None = 0.1,
    spatial_axes: int | None = None,
) -> tuple[Tensor, BatchCache | batch_norm.Cache]:  # fmt: skip
    """Compute batch norm; of an empty x, by the formula."""
    checks.check_batch(params, x, spatial_axes)
    checks.check_count("batch_norm", x, x.shape[0] * x.shape[2:].numel())
    if x.numel() == 0:
        return batch_norm.forward(params, x, eps=eps, momentum=momentum, spatial_axes=spatial_axes)
    shape = tuple(x.shape)
    x = _in_order(x)
    # With a momentum of 1, the kernel's running statistics become those of the batch.
    start = x.new_zeros(x.shape[1])
    y, mean, rstd, _, var = torch.ops.aten._native_batch_norm_legit_functional(
        x, params.weight, params.bias, start, start, True, 1.0, eps
    )
    if loses_digits(mean, rstd):
        x = _in_shape(x, shape)
        return batch_norm.forward(params, x, eps=eps, momentum=momentum, spatial_axes=spatial_axes)
    return _in_shape(y, shape), BatchCache(x, mean, rstd, var, shape, eps, momentum)


@unless_transformed(batch_norm.backward, BatchCache, to_batch_norm_cache)
def batch_backward(
    params: batch_norm.Params, cache: BatchCache, g: Tensor
) -> tuple[Tensor, batch_norm.Params]:
    """Compute dx, dw and db of batch norm."""
    core.check_cotangent("batch_norm", g, cache.x, cache.shape)
    # The two None stand for running statistics, unused in training.
    own = cache.x, params.weight, None, None, cache.mean, cache.rstd, True, cache.eps
    kernel = torch.ops.aten.native_batch_norm_backward
    dx, dweight, dbias = gradients(kernel, params, _in_order(g), *own)
    return _in_shape(dx, cache.shape), batch_norm.Params(dweight, dbias, params.running)


@unless_transformed(batch_norm.advance, BatchCache)
def batch_advance(params: batch_norm.Params, cache: BatchCache) -> batch_norm.Params:
    """Move the running statistics towards the batch's."""
    if params.running is None:
        return params
    running = moved(params.running, cache.mean, cache.var, cache.momentum)
    return batch_norm.Params(params.weight, params.bias, running)


@unless_transformed(batch_norm.predict)
def batch_predict(
    params: batch_norm.Params, x: Channels, *, eps: float = 1e-5, **options: Argument
) -> Tensor:
    """Compute batch norm by the running statistics, if there are any."""
    running = params.running
    if running is None:
        y: Tensor = batch_forward(params, x, eps=eps, **options)[0]
        return y
    checks.check_batch(params, x, options.get("spatial_axes"))
    return torch.nn.functional.batch_norm(
        x, running.mean, running.var, params.weight, params.bias, eps=eps
    )


def _in_order(x: Tensor) -> Tensor:
    """Copy x so that a channel's numbers are neighbours in memory; (N, C) becomes (1, C, N)."""
    area = x.shape[2:].numel()
    if x.shape[0] * area <= MOST_VALUES:
        return x
    return x.contiguous() if area > 1 else x.reshape(x.shape[:2]).mT.contiguous().unsqueeze(0)


def _in_shape(y: Tensor, shape: tuple[int, ...]) -> Tensor:
    return y if y.shape == shape else y.squeeze(0).mT.reshape(shape)


TWINS: Final = (
    Twin(layer_norm, layer_forward, layer_backward, to_formula_cache=to_layer_norm_cache),
    Twin(group_norm, group_forward, group_backward, to_formula_cache=to_group_norm_cache),
    Twin(batch_norm, batch_forward, batch_backward, predict=batch_predict, advance=batch_advance),
)
