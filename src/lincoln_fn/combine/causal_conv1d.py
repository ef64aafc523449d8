"""A convolution along a sequence that sees no later position: padding before, and none after."""

from __future__ import annotations

from lincoln_fn.combine.serial import serial
from lincoln_fn.core import Layer, PositiveInt, bare, constructor
from lincoln_fn.initializers import Initializer
from lincoln_fn.layers.conv import DEFAULT_INIT, conv1d
from lincoln_fn.layers.pad import zero_pad1d
from lincoln_fn.layers.permute import permute


@constructor
def causal_conv1d(
    out_channels: PositiveInt,
    kernel_size: PositiveInt,
    *,
    dilation: PositiveInt = 1,
    groups: PositiveInt = 1,
    bias: bool = True,
    weight_init: Initializer = DEFAULT_INIT,
    bias_init: Initializer = DEFAULT_INIT,
) -> Layer:
    """Convolve along a sequence (batch, length, features) whose end each position has not seen.

    y_t depends on x_t and the (kernel_size - 1) dilation positions before it, with zeros before the
    first. It is `conv1d` behind a padding, with the features last. With as many groups as features,
    each feature is convolved by itself, as in Mamba.

    Args:
        out_channels: the features of y.
        groups: the number of groups that the features are divided into, as `conv1d` says.
        weight_init: draws the kernels. The default is torch's: uniform within 1 / sqrt(n_in).

    Example:
        >>> layer, x = causal_conv1d(3, 2, weight_init=lf.initializers.ones()), torch.ones(1, 4, 1)
        >>> layer.predict(layer.init(lf.Key(0), x), x).shape
        torch.Size([1, 4, 3])
    """
    convolve = conv1d(
        out_channels, kernel_size, dilation=dilation, groups=groups, bias=bias,
        weight_init=weight_init, bias_init=bias_init,
    )  # fmt: skip
    padding = zero_pad1d(((kernel_size - 1) * dilation, 0))
    network = serial(permute(0, 2, 1), padding, convolve, permute(0, 2, 1))
    return bare(lambda call: network.replace(name=call))
