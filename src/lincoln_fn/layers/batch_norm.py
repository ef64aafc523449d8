"""Batch norm: y = (x - mean) / sqrt(var + epsilon) w + b, each channel over the batch.

Axis 1 is the channels. Each channel is normalised by its mean and biased variance over the batch
and all positions (Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 1).

Derivation. That of layer norm, with a channel for a row, and means over batch and positions:

    rstd = 1 / sqrt(var + epsilon)
    hat x = (x - mean) rstd
    y = hat x w + b

`layers/layer_norm.py` derives

    d hat x = g w
    dx = rstd (d hat x - mean(d hat x) - hat x mean(d hat x hat x))
    dw = sum g hat x    over batch and positions
    db = sum g    over batch and positions

which are the last equations of the paper's section 3. The conventions are torch's. With M the
number of values in a channel:

- `forward` normalises by the batch's own mean and biased variance, sum of (x - mean)^2 / M;
- `advance` updates the running statistics, `new = (1 - momentum) * old + momentum * batch`, with
  the batch's unbiased variance, sum of (x - mean)^2 / (M - 1); with momentum None, momentum is
  1 / num_batches, so they are the average over all batches;
- `predict` normalises by the running statistics, or as `forward` does if none are tracked;
- for an empty batch, y is empty, and only num_batches changes.

Cache: x_hat in x's dtype; rstd, mean and the unbiased variance, one number per channel, for half
precision in float32. The last two are for `advance`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Channels, Key, Layer, NonNegative, PositiveInt, Probability, record
from lincoln_fn.layers.common import normalisation
from lincoln_fn.layers.common.inputs import check_batch, check_count
from lincoln_fn.layers.common.normalisation import Running
from lincoln_fn.layers.common.running_statistics import Norm, inference_forms


@record
class Params:
    """The scale and the shift, one number per channel, and running statistics, or None."""

    weight: Float[Tensor, " channels"] | None
    bias: Float[Tensor, " channels"] | None
    running: Running | None


@record
class Cache:
    x_hat: Channels
    rstd: Float[Tensor, "1 channels *ones"]
    mean: Float[Tensor, " channels"]
    var: Float[Tensor, " channels"]
    momentum: float | None = core.static()


def init(
    key: Key, x: Channels, *, affine: bool, track_running_stats: bool, bias: bool,
    spatial_axes: int | None,
) -> Params:  # fmt: skip
    """Make a weight of ones, a bias of zeros and running statistics for inputs like x."""
    channels = x.shape[check_batch(None, x, spatial_axes)]
    running = normalisation.first_running(key, x, channels) if track_running_stats else None
    return Params(*normalisation.first_affine(key, x, (channels,), affine, bias), running)


def forward(
    params: Params, x: Channels, *, eps: float, momentum: float | None, spatial_axes: int | None
) -> tuple[Channels, Cache]:
    """Compute y = x_hat w + b with x_hat = (x - mean) rstd, by the batch's own statistics."""
    check_batch(params, x, spatial_axes)
    count = x.shape[0] * x.shape[2:].numel()
    check_count("batch_norm", x, count)
    axes = (0, *range(2, x.ndim))
    y, x_hat, rstd, mean, var = normalisation.normalised(params, x, axes, eps, x.ndim - 2)
    unbiased = var * (count / (count - 1))
    return y, Cache(x_hat, rstd, mean.flatten(), unbiased.flatten(), momentum)


def backward(params: Params, cache: Cache, g: Channels) -> tuple[Channels, Params]:
    """Compute dx = rstd (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)), dw and db."""
    axes = (0, *range(2, g.ndim))
    return normalisation.normalised_backward(params, cache.x_hat, cache.rstd, g, (1,), axes)


_AT_INFERENCE = inference_forms(Norm("batch_norm", forward, backward, Params, check_batch))


def predict(
    params: Params, x: Channels, *, eps: float, momentum: float | None, spatial_axes: int | None
) -> Channels:
    """Compute y by the running statistics, or as `forward` does if there are none."""
    return _AT_INFERENCE[0](params, x, eps=eps, momentum=momentum, spatial_axes=spatial_axes)[0]


core.declare(predict, kind="batch_norm", at_inference=_AT_INFERENCE)


def advance(params: Params, cache: Cache) -> Params:
    """Update the running statistics: new = (1 - momentum) old + momentum batch."""
    return normalisation.advanced(params, cache)


core.declare(advance, reads=("mean", "var"))


@core.constructor(kind="batch_norm")
def batch_norm(
    eps: NonNegative = 1e-5, momentum: Probability | None = 0.1, affine: bool = True,
    track_running_stats: bool = True, *, bias: bool = True, spatial_axes: PositiveInt | None = None,
) -> Layer:  # fmt: skip
    """Normalise each channel over the batch: y = (x - mean) / sqrt(var + eps) w + b.

    x is of shape (N, C) or (N, C, ...) with any further axes; y is of x's shape. `forward` uses the
    batch's statistics, `predict` the running ones, and `advance` updates them.

    Args:
        momentum: the batch's weight in running statistics; None for an average over all batches.
        affine: whether there is a weight.
        track_running_stats: whether there are running statistics; else `predict` uses the batch's.
        spatial_axes: how many axes x has after the channels; any other x is refused. 1 accepts
            (N, C, L) and (N, C), as torch's BatchNorm1d does. None accepts any number.

    Example:
        >>> params = Params(None, None, None)
        >>> batch_norm(affine=False).forward(params, torch.tensor([[1.0, 6.0], [3.0, 4.0]]))[0]
        tensor([[-1.0000,  1.0000],
                [ 1.0000, -1.0000]])
    """
    next_params = advance if track_running_stats else core.unchanged
    return core.bare(Layer, forward, backward, init, predict, advance=next_params)
