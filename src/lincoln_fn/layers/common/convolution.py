"""A convolution, its transpose and the gradient of its weight, over one to three spatial axes.

With s the stride, d the dilation, and o and c channels of one group, a convolution A of x, its
transpose and the gradient of its weight are

    (A x)_o[p] = sum_(c,k) W_(o,c)[k] x_c[s p + d k]
    (A^T g)_c[t] = sum_o sum_(p,k: s p + d k = t) W_(o,c)[k] g_o[p]
    dW_(o,c)[k] = sum_p g_o[p] x_c[s p + d k]

The layer `conv` is A, and its dx is A^T g. The layer `conv_transpose` is A^T, and its dx is A g.
The third line is the first with k and p exchanged: a convolution of x with the kernel g, whose
stride is d and whose dilation is s. It sums over the batch as the first sums over the channels.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lincoln_fn import core
from lincoln_fn.core import ConvInput, ConvOutput, Key, NonNegativeSizes, Sizes, unexpected, warn
from lincoln_fn.initializers import Fans, Initializer
from lincoln_fn.layers.common.inputs import check_image, per_axis
from lincoln_fn.layers.dense import drawn
from lincoln_fn.layers.pad import Amounts

Kernels: TypeAlias = Float[Tensor, "out_channels group_channels *kernel"]
Bias: TypeAlias = Float[Tensor, " channels"] | None
Padding: TypeAlias = NonNegativeSizes | Literal["same", "valid"]
PaddingMode: TypeAlias = Literal["zeros", "reflect", "replicate", "circular"]


class Geometry(NamedTuple):
    """How a kernel moves over x: its stride, its dilation, and the groups."""

    stride: Sizes
    dilation: Sizes
    groups: int


def convolve(x: ConvInput, weight: Kernels, bias: Bias, geometry: Geometry) -> ConvOutput:
    """Compute (A x)_o[p] + b_o = sum_(c,k) W_(o,c)[k] x_c[s p + d k] + b_o."""
    stride, dilation, groups = geometry
    convolution = (F.conv1d, F.conv2d, F.conv3d)[len(stride) - 1]
    return convolution(x, weight, bias, stride=stride, dilation=dilation, groups=groups)


def convolve_transposed(
    g: ConvOutput, weight: Kernels, bias: Bias, geometry: Geometry, padding: Sizes,
    output_padding: Sizes,
) -> ConvInput:  # fmt: skip
    """Compute (A^T g)_c[t] + b_c, cut by `padding` at both ends, longer by `output_padding`."""
    stride, dilation, groups = geometry
    convolution = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(stride) - 1]
    return convolution(g, weight, bias, stride, padding, output_padding, groups, dilation)


def weight_gradient(g: ConvOutput, x: ConvInput, weight: Kernels, geometry: Geometry) -> Kernels:
    """Compute dW_(o,c)[k] = sum_p g_o[p] x_c[s p + d k], summed over the batch."""
    stride, dilation, groups = geometry
    n = len(stride)
    if g.ndim == n + 1:
        g, x = g[None], x[None]
    if len(x) == 0:  # torch returns no channels of y for a convolution over no channels
        return weight.new_zeros(weight.shape)
    # Elements after the last one that the kernel reached contribute to no W[k].
    for axis, end in enumerate(reach(g.shape[2:], weight, geometry), 2):
        x = x.narrow(axis, 0, end)
    x, g = (t.reshape(len(t), groups, -1, *t.shape[2:]) for t in (x, g))
    x = x.transpose(0, 2).flatten(1, 2)  # (group_channels, groups * batch, *reached)
    g = g.movedim(0, 2).flatten(0, 1)  # (out_channels, batch, *positions)
    return convolve(x, g, None, Geometry(dilation, stride, groups)).transpose(0, 1)


def bias_gradient(bias: Bias, g: ConvOutput, geometry: Geometry) -> Bias:
    """Compute db_o = sum_p g_o[p], summed over the batch; None if there is no bias."""
    if bias is None:
        return None
    channels = g.ndim - len(geometry.stride) - 1
    return g.sum([axis for axis in range(g.ndim) if axis != channels])


def reach(positions: Sizes, weight: Tensor, geometry: Geometry) -> Sizes:
    """Compute s (P - 1) + d (K - 1) + 1, the elements under a kernel of K in P positions."""
    stride, dilation, _ = geometry
    axes = zip(positions, weight.shape[2:], stride, dilation, strict=True)
    return tuple(s * (p - 1) + d * (k - 1) + 1 for p, k, s, d in axes)


def fits(spatial: Sizes, weight: Tensor, geometry: Geometry) -> Sizes:
    """Compute (N - d (K - 1) - 1) // s + 1, the positions of a kernel of K on N elements."""
    stride, dilation, _ = geometry
    axes = zip(spatial, weight.shape[2:], stride, dilation, strict=True)
    return tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in axes)


def named(family: str, weight: object) -> str:
    """Name the layer that a weight belongs to, such as "conv2d"."""
    if not isinstance(weight, Tensor) or not 3 <= weight.ndim <= 5:
        got = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise unexpected(family, "a weight with one to three spatial axes", got)
    return f"{family}{weight.ndim - 2}d"


def check_fit(
    layer: str, x: Tensor, weight: Tensor, bias: Tensor | None, n_out: int, y_spatial: Sizes
) -> None:
    """Check that x and the bias are of the weight's dtype, the bias's shape, and y not empty."""
    core.check_like(layer, "x", x, weight)
    core.check_bias(layer, bias, weight, n_out)
    if min(y_spatial) < 1:
        got = f"x of shape {tuple(x.shape)} for a kernel of {tuple(weight.shape[2:])}"
        raise unexpected(layer, "at least one position for the kernel", got)


def draw(
    family: str, key: Key, x: Tensor, kernel_size: Sizes, groups: int, out_channels: int,
    bias: bool, weight_init: Initializer, bias_init: Initializer,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Check the example given to `init`, and draw weight and bias for its channels."""
    n = len(kernel_size)
    layer = f"{family}{n}d"
    check_image(layer, x, n)
    channels = x.shape[-n - 1]
    # Only of a network's first part: an x on `meta` is another part's output.
    is_square = n == 2 and channels == x.shape[-2] >= 16
    if is_square and x.shape[-1] in (1, 3) and not x.is_meta:
        problem = f"{layer}: x of shape {tuple(x.shape)} has {channels} channels, the first of its"
        mend = "for images with the channels last, write x.movedim(-1, -3)"
        warn(f"{problem} last three axes; {mend}")
    if channels % groups:
        raise unexpected(layer, f"channels that groups={groups} divides", channels)
    is_transposed = family == "conv_transpose"
    first, second = (channels, out_channels) if is_transposed else (out_channels, channels)
    shape = (first, second // groups, *kernel_size)
    size = math.prod(kernel_size)
    fans = Fans(shape[1] * size, shape[0] * size)  # as torch counts them, from W's shape
    return drawn(key, x, shape, fans, out_channels, bias, weight_init, bias_init)


def conv_axes(
    layer: str, kernel_size: Sizes, stride: int | Sizes, padding: int | Sizes | str,
    dilation: int | Sizes, groups: int, padding_mode: str,
) -> tuple[Geometry, Amounts, str]:  # fmt: skip
    """Find the geometry of a convolution, and the amounts and the mode that `pad` takes."""
    n = len(kernel_size)
    steps = per_axis(layer, "stride", stride, n)
    dilations = per_axis(layer, "dilation", dilation, n)
    geometry = Geometry(steps, dilations, groups)
    mode = "constant" if padding_mode == "zeros" else padding_mode
    if padding == "same":
        if max(steps) > 1:
            raise unexpected(layer, "stride 1 for padding='same'", stride)
        spare = [d * (k - 1) for d, k in zip(dilations, kernel_size, strict=True)]
        return geometry, tuple((total // 2, total - total // 2) for total in spare), mode
    sizes = per_axis(layer, "padding", 0 if isinstance(padding, str) else padding, n)
    return geometry, tuple((size, size) for size in sizes), mode


def conv_transpose_axes(
    layer: str, n: int, stride: int | Sizes, padding: int | Sizes, output_padding: int | Sizes,
    groups: int, dilation: int | Sizes,
) -> tuple[Geometry, Sizes, Sizes]:  # fmt: skip
    """Find the geometry of a transposed convolution, its padding and its output padding."""
    steps = per_axis(layer, "stride", stride, n)
    dilations = per_axis(layer, "dilation", dilation, n)
    more = per_axis(layer, "output_padding", output_padding, n)
    if any(extra >= max(pair) for extra, *pair in zip(more, steps, dilations, strict=True)):
        raise core.unexpected(layer, "output_padding below stride or dilation", output_padding)
    return Geometry(steps, dilations, groups), per_axis(layer, "padding", padding, n), more


def kernel_axes(
    layer: str, n: int, out_channels: int, kernel_size: int | Sizes, groups: int
) -> Sizes:
    """Check what both kinds of layers are made with, and find the kernel's size on each axis."""
    divides = out_channels % groups == 0
    core.require(divides, layer, f"out_channels that groups={groups} divides", out_channels)
    return per_axis(layer, "kernel_size", kernel_size, n)
