"""The hyperparameters of convolutions: checked, and written out axis by axis."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from lincoln_fn.core import LayerError, NonNegativeSizes, require
from lincoln_fn.layers.common.convolution import Geometry
from lincoln_fn.layers.common.pad_axes import Amounts
from lincoln_fn.layers.common.spatial import Sizes, per_axis

Padding: TypeAlias = NonNegativeSizes | Literal["same", "valid"]
PaddingMode: TypeAlias = Literal["zeros", "reflect", "replicate", "circular"]

PADDING_MODES = get_args(PaddingMode)


def conv_axes(
    layer: str, kernel_size: Sizes, stride: int | Sizes, padding: int | Sizes | str,
    dilation: int | Sizes, groups: int, padding_mode: str,
) -> tuple[Geometry, Amounts, str]:  # fmt: skip
    """Find the geometry of a convolution, and the amounts and the mode that `pad` takes.

    Example:
        >>> conv_axes("conv1d", (4,), 1, "same", 1, 2, "zeros")
        (Geometry(stride=(1,), dilation=(1,), groups=2), ((1, 2),), 'constant')
    """
    n = len(kernel_size)
    steps = per_axis(layer, "stride", stride, n, 1)
    dilations = per_axis(layer, "dilation", dilation, n, 1)
    geometry = Geometry(steps, dilations, groups)
    if padding_mode not in PADDING_MODES:
        modes = ", ".join(PADDING_MODES)
        raise LayerError(layer, f"expected padding_mode one of {modes}, got {padding_mode!r}")
    mode = "constant" if padding_mode == "zeros" else padding_mode
    if padding == "same":
        if max(steps) > 1:
            raise LayerError(layer, f"expected stride 1 for padding='same', got {stride}")
        spare = [d * (k - 1) for d, k in zip(dilations, kernel_size, strict=True)]
        return geometry, tuple((total // 2, total - total // 2) for total in spare), mode
    if isinstance(padding, str):
        if padding != "valid":
            raise LayerError(layer, f"expected padding 'same' or 'valid', got {padding!r}")
        padding = 0
    sizes = per_axis(layer, "padding", padding, n)
    return geometry, tuple((size, size) for size in sizes), mode


def conv_transpose_axes(
    layer: str, n: int, stride: int | Sizes, padding: int | Sizes, output_padding: int | Sizes,
    groups: int, dilation: int | Sizes,
) -> tuple[Geometry, Sizes, Sizes]:  # fmt: skip
    """Find the geometry of a transposed convolution, its padding and its output padding.

    Example:
        >>> conv_transpose_axes("conv_transpose2d", 2, 2, 1, (0, 1), 1, 1)[1:]
        ((1, 1), (0, 1))
    """
    steps = per_axis(layer, "stride", stride, n, 1)
    dilations = per_axis(layer, "dilation", dilation, n, 1)
    more = per_axis(layer, "output_padding", output_padding, n)
    if any(extra >= max(pair) for extra, *pair in zip(more, steps, dilations, strict=True)):
        raise LayerError(
            layer, f"expected output_padding below stride or dilation, got {output_padding}"
        )
    return Geometry(steps, dilations, groups), per_axis(layer, "padding", padding, n), more


def kernel_axes(
    layer: str, n: int, out_channels: int, kernel_size: int | Sizes, groups: int
) -> Sizes:
    """Check what both kinds of layers are made with, and find the kernel's size on each axis."""
    divides = out_channels % groups == 0
    require(divides, layer, f"out_channels that groups={groups} divides", out_channels)
    return per_axis(layer, "kernel_size", kernel_size, n, 1)
