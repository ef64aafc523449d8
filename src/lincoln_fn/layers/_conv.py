"""What the convolutions share: hyperparameters by axis, checks, and ATen's one pair of kernels.

A convolution and a transposed convolution are each other's gradient, and ATen computes both by
`convolution` and `convolution_backward`, for one to three spatial axes, told apart by a flag.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.initializers import Fans, Initializer
from lincoln_fn.keys import Key
from lincoln_fn.layers._spatial import Sizes, channels_last, check_image
from lincoln_fn.shapes import LayerError, check_input, check_like


class Geometry(NamedTuple):
    """How a kernel is laid over its input, axis by axis, in the order that ATen takes it."""

    stride: Sizes
    padding: Sizes
    dilation: Sizes
    transposed: bool
    output_padding: Sizes
    groups: int


def named(family: str, weight: object) -> str:
    """Name the layer that a weight belongs to, such as "conv2d".

    Args:
        family: "conv" or "conv_transpose".
        weight: the weight given, of three to five axes.

    Returns:
        The name.

    Raises:
        LayerError: if it has another number of axes.

    Example:
        >>> named("conv", torch.zeros(4, 3, 2, 2))
        'conv2d'
    """
    if not isinstance(weight, Tensor) or not 3 <= weight.ndim <= 5:
        got = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise LayerError(family, f"expected a weight with one to three spatial axes, got {got}")
    return f"{family}{weight.ndim - 2}d"


def init_tensors(
    key: Key,
    x: Tensor,
    shape: Sizes,
    n_out: int,
    *,
    bias: bool,
    weight_init: Initializer,
    bias_init: Initializer,
) -> tuple[Tensor, Tensor | None]:
    """Draw weight and bias, with fans counted from the weight's shape as torch counts them.

    Args:
        key: what they are drawn from.
        x: gives dtype and device.
        shape: the weight's.
        n_out: the number of channels of y.
        bias: whether there is a bias.
        weight_init: draws the weight.
        bias_init: draws the bias.

    Returns:
        The weight, and the bias or None.
    """
    size = math.prod(shape[2:])
    fans = Fans(shape[1] * size, shape[0] * size)
    weight_key, bias_key = key.near(x).split()
    weight = weight_init.draw(weight_key, shape, fans, x.dtype)
    return weight, bias_init.draw(bias_key, (n_out,), fans, x.dtype) if bias else None


def check_example(layer: str, x: object, n: int, groups: int) -> int:
    """Check the example input given to `init`.

    Args:
        layer: the layer's name.
        x: the example.
        n: the number of spatial axes.
        groups: what its channels are divided into.

    Returns:
        The number of its channels.

    Raises:
        LayerError: if it is no floating tensor of the layer's shape.
    """
    check_input(layer, (), x)
    assert isinstance(x, Tensor)  # as just checked
    check_image(layer, x, n)
    channels = x.shape[-n - 1]
    if channels % groups:
        raise LayerError(layer, f"expected channels that groups={groups} divides, got {channels}")
    return channels


def output_shape(x: Tensor, weight: Tensor, geometry: Geometry) -> Sizes:
    """Find the shape of y.

    Args:
        x: the input.
        weight: the weight.
        geometry: how it is laid over x.

    Returns:
        The shape, which has sizes below 1 where the kernel does not fit.

    Example:
        >>> geometry = Geometry((2,), (1,), (1,), False, (0,), 1)
        >>> output_shape(torch.zeros(5, 3, 7), torch.zeros(4, 3, 3), geometry)
        (5, 4, 4)
    """
    n = weight.ndim - 2
    axes = zip(x.shape[-n:], weight.shape[2:], *geometry[:3], geometry.output_padding, strict=True)
    if geometry.transposed:
        channels = weight.shape[1] * geometry.groups
        spatial = (
            (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
            for size, kernel, stride, padding, dilation, output_padding in axes
        )
    else:
        channels = weight.shape[0]
        spatial = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation, _ in axes
        )
    return (*x.shape[: -n - 1], channels, *spatial)


def in_order(x: Tensor, weight: Tensor) -> Tensor:
    """Give x, or g, the order in memory in which the kernels are fastest.

    Args:
        x: batched or not.
        weight: the weight.

    Returns:
        The same numbers.

    Example:
        >>> in_order(torch.zeros(1, 1, 5, 5), torch.zeros(8, 1, 3, 3)).stride()
        (25, 1, 5, 1)
    """
    return channels_last(x, max(weight.shape[0], x.shape[1])) if weight.ndim == 4 else x


def convolve(
    layer: str,
    x: Float[Tensor, "*batch_channels_spatial"],
    weight: Float[Tensor, "a b *kernel"],
    bias: Float[Tensor, " n_out"] | None,
    geometry: Geometry,
) -> Float[Tensor, "*batch_channels_spatial"]:
    """Run the forward kernel.

    Args:
        layer: the layer's name.
        x: the input, batched or not.
        weight: the weight.
        bias: the bias, or None.
        geometry: how the weight is laid over x.

    Returns:
        y.

    Raises:
        LayerError: if x and weight differ in dtype or device, or y would be empty.
    """
    check_like(layer, "x", x, weight)
    shape = output_shape(x, weight, geometry)
    if min(shape[2 - weight.ndim :]) < 1:
        given = f"x of shape {tuple(x.shape)} for a kernel of {tuple(weight.shape[2:])}"
        raise LayerError(layer, f"expected at least one position for the kernel, got {given}")
    batched = x if x.ndim == weight.ndim else x[None]
    y = torch.convolution(batched, weight, bias, *geometry)
    return y if x.ndim == weight.ndim else y[0]


def gradients(
    g: Float[Tensor, "*batch_channels_spatial"],
    x: Float[Tensor, "*batch_channels_spatial"],
    weight: Float[Tensor, "a b *kernel"],
    geometry: Geometry,
    wanted: tuple[bool, bool, bool],
) -> tuple[Any, Any, Any]:  # Any: the caller knows which are tensors
    """Run the backward kernel.

    Args:
        g: dL/dy.
        x: the input.
        weight: the weight.
        geometry: how the weight is laid over x.
        wanted: whether dx, dweight and dbias are.

    Returns:
        dx, dweight and dbias, None where not wanted.
    """
    is_batched = x.ndim == weight.ndim
    g, x = (g, x) if is_batched else (g[None], x[None])
    dx, dweight, dbias = torch.ops.aten.convolution_backward(
        in_order(g, weight), x, weight, [g.shape[1]], *geometry, wanted
    )
    return dx if is_batched or dx is None else dx[0], dweight, dbias
