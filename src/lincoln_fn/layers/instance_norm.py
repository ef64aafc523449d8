"""Instance norm: y = (x - mean) / sqrt(var + epsilon) w + b, each channel of each example.

Each channel of each example is normalised by the mean and biased variance over its positions
(Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016, equation 4).

Derivation. A channel of an example takes the role of a row in layer norm, and the means are over
its positions:

    rstd = 1 / sqrt(var + epsilon)
    hat x = (x - mean) rstd
    y = hat x w + b

`layers/layer_norm.py` derives

    d hat x = g w
    dx = rstd (d hat x - mean(d hat x) - hat x mean(d hat x hat x))
    dw = sum g hat x    over examples and positions
    db = sum g    over examples and positions

Running statistics, if they are tracked, are computed as in `layers/batch_norm.py`. A batch's mean
and unbiased variance are the averages over its examples.

Cache: x_hat in x's dtype; rstd, mean and the unbiased variance, one number per channel of each
example, for half precision in float32. The last two are for `advance`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Instances, Key, Layer, NonNegative, PositiveInt, Probability, record
from lincoln_fn.layers.common import normalisation
from lincoln_fn.layers.common.inputs import check_count, check_instances
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
    x_hat: Instances
    rstd: Float[Tensor, "*channels_and_ones"]
    mean: Float[Tensor, "*batch channels"]
    var: Float[Tensor, "*batch channels"]
    momentum: float | None = core.static()


def init(
    key: Key, x: Instances, *, affine: bool, track_running_stats: bool, bias: bool,
    spatial_axes: int | None,
) -> Params:  # fmt: skip
    """Make a weight of ones, a bias of zeros and running statistics for inputs like x."""
    channels = x.shape[check_instances(None, x, spatial_axes)]
    running = normalisation.first_running(key, x, channels) if track_running_stats else None
    return Params(*normalisation.first_affine(key, x, (channels,), affine, bias), running)


def forward(
    params: Params, x: Instances, *, eps: float, momentum: float | None, spatial_axes: int | None
) -> tuple[Instances, Cache]:
    """Compute y = x_hat w + b with x_hat = (x - mean) rstd, by each channel's own statistics."""
    axis = check_instances(params, x, spatial_axes)
    count = x.shape[axis + 1 :].numel()
    check_count("instance_norm", x, count)
    axes = tuple(range(axis + 1, x.ndim))
    y, x_hat, rstd, mean, var = normalisation.normalised(params, x, axes, eps, len(axes))
    unbiased = var * (count / (count - 1))
    return y, Cache(x_hat, rstd, mean.flatten(axis), unbiased.flatten(axis), momentum)


def backward(params: Params, cache: Cache, g: Instances) -> tuple[Instances, Params]:
    """Compute dx = rstd (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)), dw and db."""
    axis = cache.mean.ndim - 1
    axes = tuple(range(axis + 1, g.ndim))
    return normalisation.normalised_backward(params, cache.x_hat, cache.rstd, g, (axis,), axes)


def terms(params: Params, cache: Cache, g: Tensor) -> Params:
    """Return dw_n = sum of g x_hat and db_n = sum of g, over what shares them in example n."""
    return normalisation.affine_terms(params, cache.x_hat, g, (cache.mean.ndim - 1,))


_AT_INFERENCE = inference_forms(Norm("instance_norm", forward, backward, Params, check_instances))


def predict(
    params: Params, x: Instances, *, eps: float, momentum: float | None, spatial_axes: int | None
) -> Instances:
    """Compute y by the running statistics, or as `forward` does if there are none."""
    return _AT_INFERENCE[0](params, x, eps=eps, momentum=momentum, spatial_axes=spatial_axes)[0]


core.declare(predict, kind="norm", at_inference=_AT_INFERENCE)


def advance(params: Params, cache: Cache) -> Params:
    """Update the running statistics by the averages over the batch's examples."""
    return normalisation.advanced(params, cache)


core.declare(advance, reads=("mean", "var"))


@core.constructor(kind="norm", terms=terms)
def instance_norm(
    eps: NonNegative = 1e-5, momentum: Probability | None = 0.1, affine: bool = False,
    track_running_stats: bool = False, *, bias: bool = True,
    spatial_axes: PositiveInt | None = None,
) -> Layer:  # fmt: skip
    """Normalise each channel of each example: y = (x - mean) / sqrt(var + eps) w + b.

    x is of shape (N, C, L, ...) with one or more axes of positions, or with spatial_axes also
    (C, L, ...); y is of x's shape.

    Args:
        momentum: the weight of the batch in the running statistics; None for their average over all
            batches. (torch's layer does not update them then.)
        affine: whether there is a weight.
        track_running_stats: whether there are running statistics, which `predict` then uses.
        spatial_axes: how many axes of positions x has: with 2, (C, L1, L2) is one example, as for
            torch's InstanceNorm2d. None takes every x as a batch.

    Example:
        >>> params = Params(None, None, None)
        >>> instance_norm(spatial_axes=1).forward(params, torch.tensor([[1.0, 3.0], [6.0, 4.0]]))[0]
        tensor([[-1.0000,  1.0000],
                [ 1.0000, -1.0000]])
    """
    next_params = advance if track_running_stats else core.unchanged
    return core.bare(Layer, forward, backward, init, predict, advance=next_params)
