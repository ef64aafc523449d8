"""The hyperparameters of convolutions: checked, and call_repr out axis by axis."""

from __future__ import annotations

from lincoln_fn.layers._conv import Geometry
from lincoln_fn.layers._padding import Amounts
from lincoln_fn.layers._spatial import Sizes, per_axis
from lincoln_fn.shapes import LayerError

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def conv_axes(
    layer: str,
    kernel_size: Sizes,
    stride: int | Sizes,
    padding: int | Sizes | str,
    dilation: int | Sizes,
    padding_mode: str,
) -> tuple[Sizes, Sizes, Amounts, str]:
    """Check the hyperparameters and spell them out.

    Args:
        layer: the layer's name.
        kernel_size: one number a spatial axis.
        stride: as `forward` has it, like the next.
        padding: of the input.
        dilation: of the kernel.
        padding_mode: of the padding.

    Returns:
        Stride and dilation for each spatial axis, and the amounts and the mode that `pad` takes.

    Raises:
        LayerError: if one of them is not as `forward` has it.

    Example:
        >>> conv_axes("conv1d", (4,), 1, "same", 1, "zeros")
        ((1,), (1,), ((1, 2),), 'constant')
    """
    n = len(kernel_size)
    steps = per_axis(layer, "stride", stride, n, 1)
    dilations = per_axis(layer, "dilation", dilation, n, 1)
    if padding_mode not in PADDING_MODES:
        modes = ", ".join(PADDING_MODES)
        raise LayerError(layer, f"expected padding_mode one of {modes}, got {padding_mode!r}")
    mode = "constant" if padding_mode == "zeros" else padding_mode
    if padding == "same":
        if max(steps) > 1:
            raise LayerError(layer, f"expected stride 1 for padding='same', got {stride}")
        spare = [d * (k - 1) for d, k in zip(dilations, kernel_size, strict=True)]
        return steps, dilations, tuple((total // 2, total - total // 2) for total in spare), mode
    if isinstance(padding, str):
        if padding != "valid":
            raise LayerError(layer, f"expected padding 'same' or 'valid', got {padding!r}")
        padding = 0
    sizes = per_axis(layer, "padding", padding, n)
    return steps, dilations, tuple((size, size) for size in sizes), mode


def conv_transpose_axes(
    layer: str,
    n: int,
    stride: int | Sizes,
    padding: int | Sizes,
    output_padding: int | Sizes,
    groups: int,
    dilation: int | Sizes,
) -> Geometry:
    """Check the hyperparameters and spell them out.

    Args:
        layer: the layer's name.
        n: the number of spatial axes.
        stride: as `forward` has it, like the next.
        padding: of the output.
        output_padding: at the output's end.
        groups: of the channels.
        dilation: of the kernel.

    Returns:
        How the kernel is laid over the output.

    Raises:
        LayerError: if one of them is not as `forward` has it.

    Example:
        >>> conv_transpose_axes("conv_transpose2d", 2, 2, 1, (0, 1), 1, 1).output_padding
        (0, 1)
    """
    steps = per_axis(layer, "stride", stride, n, 1)
    dilations = per_axis(layer, "dilation", dilation, n, 1)
    more = per_axis(layer, "output_padding", output_padding, n)
    if any(extra >= max(pair) for extra, *pair in zip(more, steps, dilations, strict=True)):
        raise LayerError(
            layer, f"expected output_padding below stride or dilation, got {output_padding}"
        )
    taken = per_axis(layer, "padding", padding, n)
    return Geometry(steps, taken, dilations, True, more, groups)
