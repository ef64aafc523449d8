"""What the constructors of convolutions do for any number of axes."""

from __future__ import annotations

from functools import partial

from lincoln_fn import layers
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.layers._conv_axes import conv_axes, conv_transpose_axes
from lincoln_fn.layers._spatial import Sizes, per_axis
from lincoln_fn.nn.build import layer_of

DEFAULT_INIT = fan_in_uniform()


def conv(
    n: int,
    out_channels: int,
    kernel_size: int | Sizes,
    stride: int | Sizes,
    padding: int | Sizes | str,
    dilation: int | Sizes,
    groups: int,
    bias: bool,
    padding_mode: str,
    weight_init: Initializer,
    bias_init: Initializer,
) -> Layer:
    """Make a convolution over n spatial axes."""
    layer = f"conv{n}d"
    kernel = _checked(layer, n, out_channels, kernel_size, groups)
    conv_axes(layer, kernel, stride, padding, dilation, padding_mode)
    name = call_repr(
        layer, out_channels, kernel_size,
        stride=(stride, 1), padding=(padding, 0), dilation=(dilation, 1), groups=(groups, 1),
        bias=(bias, True), padding_mode=(padding_mode, "zeros"),
        weight_init=(weight_init, DEFAULT_INIT), bias_init=(bias_init, DEFAULT_INIT),
    )  # fmt: skip
    init = partial(
        layers.conv.init, out_channels=out_channels, kernel_size=kernel, groups=groups,
        bias=bias, weight_init=weight_init, bias_init=bias_init,
    )  # fmt: skip
    return layer_of(
        name, layers.conv, init=init,
        stride=stride, padding=padding, dilation=dilation, groups=groups,
        padding_mode=padding_mode,
    )  # fmt: skip


def conv_transpose(
    n: int,
    out_channels: int,
    kernel_size: int | Sizes,
    stride: int | Sizes,
    padding: int | Sizes,
    output_padding: int | Sizes,
    groups: int,
    bias: bool,
    dilation: int | Sizes,
    weight_init: Initializer,
    bias_init: Initializer,
) -> Layer:
    """Make a transposed convolution over n spatial axes."""
    layer = f"conv_transpose{n}d"
    kernel = _checked(layer, n, out_channels, kernel_size, groups)
    conv_transpose_axes(layer, n, stride, padding, output_padding, groups, dilation)
    name = call_repr(
        layer, out_channels, kernel_size,
        stride=(stride, 1), padding=(padding, 0), output_padding=(output_padding, 0),
        groups=(groups, 1), bias=(bias, True), dilation=(dilation, 1),
        weight_init=(weight_init, DEFAULT_INIT), bias_init=(bias_init, DEFAULT_INIT),
    )  # fmt: skip
    init = partial(
        layers.conv_transpose.init, out_channels=out_channels, kernel_size=kernel, groups=groups,
        bias=bias, weight_init=weight_init, bias_init=bias_init,
    )  # fmt: skip
    return layer_of(
        name, layers.conv_transpose, init=init,
        stride=stride, padding=padding, output_padding=output_padding, groups=groups,
        dilation=dilation,
    )  # fmt: skip


def _checked(layer: str, n: int, out_channels: int, kernel_size: int | Sizes, groups: int) -> Sizes:
    """Check what both kinds have, and spell the kernel's size out axis by axis."""
    for what, number in (("out_channels", out_channels), ("groups", groups)):
        if number < 1:
            raise ValueError(f"{layer}: expected {what} of at least 1, got {number}")
    if out_channels % groups:
        raise ValueError(
            f"{layer}: expected out_channels that groups={groups} divides, got {out_channels}"
        )
    return per_axis(layer, "kernel_size", kernel_size, n, 1)
