"""Constructors of layers that bring values to mean 0 and variance 1, or to a like size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import ModuleType

from lincoln_fn import layers
from lincoln_fn.layer import Layer, call_repr, unchanged
from lincoln_fn.nn.build import layer_of

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "rms_norm",
]


def batch_norm(
    eps: float = 1e-5,
    momentum: float | None = 0.1,
    affine: bool = True,
    track_running_stats: bool = True,
) -> Layer:
    """Make a batch norm layer, for x of shape (N, C) or (N, C, ...) with any further axes.

    `forward` uses the batch's statistics, `predict` the running ones, and `advance` moves them:
    new = (1 - momentum) old + momentum batch, with the batch's unbiased variance.

    Args:
        eps: added to the variance.
        momentum: the weight of the batch in the running statistics; None for their average over
            all batches.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics; without, `predict` uses the
            batch's.

    Returns:
        The layer, whose params are `layers.batch_norm.Params`.

    Raises:
        ValueError: if eps is below 0 or momentum not from 0 to 1.

    Example:
        >>> batch_norm(), batch_norm(momentum=None, affine=False)
        (batch_norm(), batch_norm(momentum=None, affine=False))
    """
    return _with_running(layers.batch_norm, True, eps, momentum, affine, track_running_stats)


def instance_norm(
    eps: float = 1e-5,
    momentum: float | None = 0.1,
    affine: bool = False,
    track_running_stats: bool = False,
) -> Layer:
    """Make an instance norm layer, for x of shape (N, C, L, ...) with one or more axes of places.

    Args:
        eps: added to the variance.
        momentum: the weight of the batch in the running statistics; None for their average over
            all batches, where torch's layer leaves them as they are.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics, which `predict` then uses.

    Returns:
        The layer, whose params are `layers.instance_norm.Params`.

    Raises:
        ValueError: if eps is below 0 or momentum not from 0 to 1.

    Example:
        >>> instance_norm(), instance_norm(affine=True)
        (instance_norm(), instance_norm(affine=True))
    """
    return _with_running(layers.instance_norm, False, eps, momentum, affine, track_running_stats)


def layer_norm(
    normalized_shape: int | Sequence[int] = -1,
    eps: float = 1e-5,
    elementwise_affine: bool = True,
    bias: bool = True,
) -> Layer:
    """Make a layer norm layer, over the trailing axes of x.

    Args:
        normalized_shape: the sizes of those axes, -1 standing for the example input's own: the
            default is the last axis, (-1, -1) the last two.
        eps: added to the variance.
        elementwise_affine: whether there is a weight.
        bias: whether there is a bias beside the weight.

    Returns:
        The layer, whose params are `layers.layer_norm.Params`.

    Raises:
        ValueError: if eps is below 0, or normalized_shape is empty or holds other numbers.

    Example:
        >>> layer_norm(), layer_norm((-1, -1)), layer_norm(512, bias=False)
        (layer_norm(), layer_norm((-1, -1)), layer_norm(512, bias=False))
    """
    _check_eps("layer_norm", eps)
    sizes = _sizes("layer_norm", normalized_shape)
    name = call_repr(
        "layer_norm",
        *_unless_default(sizes),
        eps=(eps, 1e-5),
        elementwise_affine=(elementwise_affine, True),
        bias=(bias, True),
    )
    init = partial(
        layers.layer_norm.init,
        normalized_shape=sizes,
        elementwise_affine=elementwise_affine,
        bias=bias,
    )
    return layer_of(name, layers.layer_norm, init=init, normalized_shape=sizes, eps=eps)


def rms_norm(
    normalized_shape: int | Sequence[int] = -1,
    eps: float | None = None,
    elementwise_affine: bool = True,
) -> Layer:
    """Make an RMS norm layer, y = x / sqrt(mean(x^2) + eps) * weight over the trailing axes of x.

    Args:
        normalized_shape: the sizes of those axes, -1 standing for the example input's own: the
            default is the last axis, (-1, -1) the last two.
        eps: added to the mean square; None for the machine epsilon.
        elementwise_affine: whether there is a weight.

    Returns:
        The layer, whose params are `layers.rms_norm.Params`.

    Raises:
        ValueError: if eps is below 0, or normalized_shape is empty or holds other numbers.

    Example:
        >>> rms_norm(), rms_norm(512, eps=1e-6)
        (rms_norm(), rms_norm(512, eps=1e-06))
    """
    if eps is not None:
        _check_eps("rms_norm", eps)
    sizes = _sizes("rms_norm", normalized_shape)
    name = call_repr(
        "rms_norm",
        *_unless_default(sizes),
        eps=(eps, None),
        elementwise_affine=(elementwise_affine, True),
    )
    init = partial(
        layers.rms_norm.init, normalized_shape=sizes, elementwise_affine=elementwise_affine
    )
    return layer_of(name, layers.rms_norm, init=init, normalized_shape=sizes, eps=eps)


def group_norm(num_groups: int, eps: float = 1e-5, affine: bool = True) -> Layer:
    """Make a group norm layer, for x of shape (N, C) or (N, C, ...) with any further axes.

    Args:
        num_groups: how many groups the channels fall into; C is a multiple of it.
        eps: added to the variance.
        affine: whether there are a weight and a bias.

    Returns:
        The layer, whose params are `layers.group_norm.Params`.

    Raises:
        ValueError: if num_groups is below 1 or eps below 0.

    Example:
        >>> group_norm(8, affine=False)
        group_norm(8, affine=False)
    """
    if num_groups < 1:
        raise ValueError(f"group_norm: expected num_groups of at least 1, got {num_groups}")
    _check_eps("group_norm", eps)
    name = call_repr("group_norm", num_groups, eps=(eps, 1e-5), affine=(affine, True))
    init = partial(layers.group_norm.init, num_groups=num_groups, affine=affine)
    return layer_of(name, layers.group_norm, init=init, num_groups=num_groups, eps=eps)


def local_response_norm(
    size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Layer:
    """Make a local response norm layer, y = x / (k + alpha mean(x^2 of near channels))^beta.

    Args:
        size: how many channels are near, from size // 2 before to (size - 1) // 2 after.
        alpha: the weight of the mean square.
        beta: the exponent.
        k: added to the mean square.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if size is below 1.

    Example:
        >>> local_response_norm(5, k=2.0)
        local_response_norm(5, k=2.0)
    """
    if size < 1:
        raise ValueError(f"local_response_norm: expected size of at least 1, got {size}")
    name = call_repr("local_response_norm", size, alpha=(alpha, 1e-4), beta=(beta, 0.75), k=(k, 1.0))
    return layer_of(name, layers.local_response_norm, size=size, alpha=alpha, beta=beta, k=k)


def _with_running(
    module: ModuleType,
    default: bool,
    eps: float,
    momentum: float | None,
    affine: bool,
    track_running_stats: bool,
) -> Layer:
    """Make a layer that can have running statistics; affine and tracking share their default."""
    function = module.__name__.rpartition(".")[2]
    _check_eps(function, eps)
    if momentum is not None and not 0 <= momentum <= 1:
        raise ValueError(f"{function}: expected momentum from 0 to 1 or None, got {momentum}")
    name = call_repr(
        function,
        eps=(eps, 1e-5),
        momentum=(momentum, 0.1),
        affine=(affine, default),
        track_running_stats=(track_running_stats, default),
    )
    init = partial(module.init, affine=affine, track_running_stats=track_running_stats)
    layer = layer_of(name, module, init=init, eps=eps, momentum=momentum)
    return layer if track_running_stats else layer.replace(advance=unchanged)


def _check_eps(name: str, eps: float) -> None:
    if not eps >= 0:
        raise ValueError(f"{name}: expected eps of at least 0, got {eps}")


def _sizes(name: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    given = normalized_shape
    sizes = (given,) if isinstance(given, int) else tuple(given)
    if not sizes or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(f"{name}: expected normalized_shape of sizes or -1, got {given}")
    return sizes


def _unless_default(sizes: tuple[int, ...]) -> tuple[object, ...]:
    shown: object = sizes[0] if len(sizes) == 1 else sizes
    return () if sizes == (-1,) else (shown,)
