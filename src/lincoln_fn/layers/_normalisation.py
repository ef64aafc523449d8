"""What the normalisations share: checks, running statistics, and the kernel over groups.

Each normalisation brings groups of M values to mean 0 and variance 1, then scales and shifts:

    x_hat = (x - mean) rstd,   rstd = 1 / sqrt(var + eps),   y = x_hat weight + bias

with the biased variance, var = sum of (x - mean)^2 / M. They differ in what a group is: a channel
over the whole batch (batch norm), a row (layer norm), some channels of one example (group norm) or
one channel of one example (instance norm). `layers/layer_norm.py` derives the backward pass.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lincoln_fn.record import State, record
from lincoln_fn.shapes import LayerError, check_like

Sizes = tuple[int, ...]


@record
class Running(State):
    """Statistics of the training data, as `predict` uses them, and how many batches they saw."""

    mean: Float[Tensor, " channels"]
    var: Float[Tensor, " channels"]
    num_batches: Int64[Tensor, ""]


def first_running(x: Float[Tensor, "batch channels *spatial"]) -> Running:
    """Make the statistics before any batch: mean 0, variance 1.

    Args:
        x: an example input, of which only shape, dtype and device count.

    Returns:
        The statistics, in x's dtype.
    """
    device = None if x.is_meta else x.device
    mean = torch.zeros(x.shape[1], dtype=x.dtype, device=device)
    return Running(mean, torch.ones_like(mean), torch.zeros((), dtype=torch.int64, device=device))


def moved(running: Running, mean: Tensor, var: Tensor, momentum: float | None) -> Running:
    """Move running statistics towards those of a batch: new = (1 - momentum) old + momentum batch.

    Args:
        running: the statistics so far.
        mean: the batch's mean.
        var: the batch's unbiased variance.
        momentum: the weight of the batch; None for 1 / num_batches, which makes them the average
            over all batches.

    Returns:
        The new statistics.
    """
    num_batches = running.num_batches + 1
    weight = num_batches.to(var.dtype).reciprocal() if momentum is None else momentum
    return Running(
        torch.lerp(running.mean, mean.to(running.mean.dtype), weight),
        torch.lerp(running.var, var.to(running.var.dtype), weight),
        num_batches,
    )


def first_affine(
    x: Tensor, sizes: Sizes, *, weight: bool, bias: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Make a weight of ones and a bias of zeros, or None for what a layer goes without.

    Args:
        x: an example input, of which only dtype and device count.
        sizes: the shape of each.
        weight: whether there is a weight.
        bias: whether there is a bias.

    Returns:
        The weight and the bias, in x's dtype.
    """
    device = None if x.is_meta else x.device
    return (
        torch.ones(sizes, dtype=x.dtype, device=device) if weight else None,
        torch.zeros(sizes, dtype=x.dtype, device=device) if bias else None,
    )


def check_channels(layer: str, x: Tensor, per_channel: Tensor | None, *, least: int = 2) -> None:
    """Check that x has channels, and as many as the parameters.

    Args:
        layer: the layer's name.
        x: the input.
        per_channel: a parameter or statistic with one number a channel; None if there is none.
        least: how many axes x has at least.

    Raises:
        LayerError: if x has fewer axes, or another number of channels, dtype or device.
    """
    channels = "C" if per_channel is None else str(per_channel.shape[0])
    if x.ndim < least or (per_channel is not None and x.shape[1] != per_channel.shape[0]):
        axes = "".join(f", L{i}" for i in range(1, least - 1))
        expected = f"(N, {channels}{axes}, ...)"
        raise LayerError(layer, f"expected x of shape {expected}, got {tuple(x.shape)}")
    if per_channel is not None:
        check_like(layer, "x", x, per_channel)


def trailing_sizes(layer: str, x: Tensor, normalized_shape: Sizes, like: Tensor | None) -> Sizes:
    """Find the sizes of the trailing axes that are normalised over.

    Args:
        layer: the layer's name.
        x: the input.
        normalized_shape: the sizes expected, -1 standing for any.
        like: the weight, whose shape they also are; None if there is none.

    Returns:
        The sizes.

    Raises:
        LayerError: if x has fewer axes or other sizes, or another dtype or device.
    """
    expected = normalized_shape if like is None else tuple(like.shape)
    sizes = tuple(x.shape[x.ndim - len(normalized_shape) :]) if x.ndim else ()
    fits = len(sizes) == len(expected)
    if not fits or any(want not in (-1, size) for want, size in zip(expected, sizes, strict=True)):
        wanted = ", ".join("*" if want == -1 else str(want) for want in expected)
        raise LayerError(layer, f"expected x of shape (..., {wanted}), got {tuple(x.shape)}")
    if like is not None:
        check_like(layer, "x", x, like)
    return sizes


def normalise_groups(
    x: Float[Tensor, "batch channels *spatial"],
    weight: Tensor | None,
    bias: Tensor | None,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each group of channels of each example.

    Args:
        x: the input, contiguous: on channels-last the kernel takes the variance as the mean of x^2
            less the square of the mean, which is lost to rounding where the mean is large.
        weight: one number a channel, or None.
        bias: one number a channel, or None.
        groups: how many groups the channels fall into.
        eps: added to the variance.

    Returns:
        y, and the mean and rstd of shape (batch, groups).
    """
    batch, channels, area = x.shape[0], x.shape[1], x.shape[2:].numel()
    y, mean, rstd = torch.ops.aten.native_group_norm(
        x, weight, bias, batch, channels, area, groups, eps
    )
    return y, mean, rstd


def normalise_groups_backward(
    g: Float[Tensor, "batch channels *spatial"],
    x: Float[Tensor, "batch channels *spatial"],
    statistics: tuple[Tensor, Tensor],
    weight: Tensor | None,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Compute dx, dweight and dbias of `normalise_groups`.

    Args:
        g: dL/dy.
        x: the input, contiguous.
        statistics: the mean and rstd of shape (batch, groups).
        weight: as given to `normalise_groups`.
        bias: as given to `normalise_groups`.

    Returns:
        dx, dweight and dbias, the latter two None where there is no such parameter.
    """
    batch, channels, area = x.shape[0], x.shape[1], x.shape[2:].numel()
    mean, rstd = statistics
    wanted = [True, weight is not None, bias is not None]
    dx, dweight, dbias = torch.ops.aten.native_group_norm_backward(
        g.contiguous(), x, mean, rstd, weight, batch, channels, area, mean.shape[1], wanted
    )
    return dx, dweight, dbias
