"""Constructors of layers that slide a kernel over one, two or three spatial axes."""

from __future__ import annotations

from lincoln_fn.initializers import Initializer
from lincoln_fn.layer import Layer
from lincoln_fn.layers._spatial import Sizes
from lincoln_fn.nn._convolution import DEFAULT_INIT, conv, conv_transpose

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]


def conv1d(
    out_channels: int,
    kernel_size: int | Sizes,
    stride: int | Sizes = 1,
    padding: int | Sizes | str = 0,
    *,
    dilation: int | Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "zeros",
    weight_init: Initializer = DEFAULT_INIT,
    bias_init: Initializer = DEFAULT_INIT,
) -> Layer:
    """Make a convolution of x of shape (channels, length) or (batch, channels, length).

    It takes and raises what `conv2d` does.

    Returns:
        The layer, whose params are `layers.conv.Params`.

    Example:
        >>> conv1d(8, 3, padding="same", dilation=2)
        conv1d(8, 3, padding='same', dilation=2)
    """
    return conv(
        1, out_channels, kernel_size, stride, padding,
        dilation, groups, bias, padding_mode, weight_init, bias_init,
    )  # fmt: skip


def conv2d(
    out_channels: int,
    kernel_size: int | Sizes,
    stride: int | Sizes = 1,
    padding: int | Sizes | str = 0,
    *,
    dilation: int | Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "zeros",
    weight_init: Initializer = DEFAULT_INIT,
    bias_init: Initializer = DEFAULT_INIT,
) -> Layer:
    """Make a convolution of x of shape (channels, height, width), or a batch of such.

    y_o[p] = b_o + sum_c,k W_o,c[k] x_c[stride p + dilation k], over the channels c of o's group.

    Args:
        out_channels: the number of channels of y. That of x is found from the example input.
        kernel_size: of the kernel; like the next, one number for all axes or one for each.
        stride: the step from one position to the next.
        padding: how many elements are added on both sides; "valid" adds none, and "same" as many
            as give y the size of x, the odd one after.
        dilation: the step from one place of the kernel to the next.
        groups: the channels of x and y are divided into so many groups, apart from each other.
        bias: whether there is a bias.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        weight_init: draws W, of shape (out_channels, in_channels / groups, *kernel_size). The
            default is torch's: uniform within 1 / sqrt(n_in), n_in being the number of elements
            of x that meet in one of y.
        bias_init: draws b, with the same default.

    Returns:
        The layer, whose params are `layers.conv.Params`.

    Raises:
        ValueError: if a number is too small or there are too many or few, groups does not divide
            out_channels, padding or padding_mode is not one of the above, or padding is "same"
            where stride is not 1.

    Example:
        >>> layer = conv2d(16, (3, 5), 2, groups=4)
        >>> layer, layer.init(lf.Key(0), torch.zeros(1, 8, 9, 9)).weight.shape
        (conv2d(16, (3, 5), stride=2, groups=4), torch.Size([16, 2, 3, 5]))
    """
    return conv(
        2, out_channels, kernel_size, stride, padding,
        dilation, groups, bias, padding_mode, weight_init, bias_init,
    )  # fmt: skip


def conv3d(
    out_channels: int,
    kernel_size: int | Sizes,
    stride: int | Sizes = 1,
    padding: int | Sizes | str = 0,
    *,
    dilation: int | Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "zeros",
    weight_init: Initializer = DEFAULT_INIT,
    bias_init: Initializer = DEFAULT_INIT,
) -> Layer:
    """Make a convolution of x of shape (channels, depth, height, width), or a batch of such.

    It takes and raises what `conv2d` does.

    Returns:
        The layer, whose params are `layers.conv.Params`.

    Example:
        >>> conv3d(8, (1, 3, 3), bias=False)
        conv3d(8, (1, 3, 3), bias=False)
    """
    return conv(
        3, out_channels, kernel_size, stride, padding,
        dilation, groups, bias, padding_mode, weight_init, bias_init,
    )  # fmt: skip


def conv_transpose1d(
    out_channels: int,
    kernel_size: int | Sizes,
    stride: int | Sizes = 1,
    padding: int | Sizes = 0,
    output_padding: int | Sizes = 0,
    *,
    groups: int = 1,
    bias: bool = True,
    dilation: int | Sizes = 1,
    weight_init: Initializer = DEFAULT_INIT,
    bias_init: Initializer = DEFAULT_INIT,
) -> Layer:
    """Make a transposed convolution of x of shape (channels, length), or a batch of such.

    It takes and raises what `conv_transpose2d` does.

    Returns:
        The layer, whose params are `layers.conv_transpose.Params`.

    Example:
        >>> conv_transpose1d(8, 4, 2, 1)
        conv_transpose1d(8, 4, stride=2, padding=1)
    """
    return conv_transpose(
        1, out_channels, kernel_size, stride, padding,
        output_padding, groups, bias, dilation, weight_init, bias_init,
    )  # fmt: skip


def conv_transpose2d(
    out_channels: int,
    kernel_size: int | Sizes,
    stride: int | Sizes = 1,
    padding: int | Sizes = 0,
    output_padding: int | Sizes = 0,
    *,
    groups: int = 1,
    bias: bool = True,
    dilation: int | Sizes = 1,
    weight_init: Initializer = DEFAULT_INIT,
    bias_init: Initializer = DEFAULT_INIT,
) -> Layer:
    """Make a transposed convolution of x of shape (channels, height, width), or a batch of such.

    It is the gradient of `conv2d`, as a layer: x_c[p] lays W_c,o, times itself, over y_o from
    position stride p - padding on.

    Args:
        out_channels: the number of channels of y. That of x is found from the example input.
        kernel_size: of the kernel; like the next, one number for all axes or one for each.
        stride: the step in y from one element of x to the next.
        padding: how many elements are taken off y on both sides.
        output_padding: how many are added to y at its end.
        groups: the channels of x and y are divided into so many groups, apart from each other.
        bias: whether there is a bias.
        dilation: the step from one place of the kernel to the next.
        weight_init: draws W, of shape (in_channels, out_channels / groups, *kernel_size). The
            default is torch's, which counts n_in from W's second axis: uniform within
            1 / sqrt(n_in), n_in = out_channels / groups * the kernel's size.
        bias_init: draws b, with the same default.

    Returns:
        The layer, whose params are `layers.conv_transpose.Params`.

    Raises:
        ValueError: if a number is too small or there are too many or few, groups does not divide
            out_channels, or output_padding is not below stride or dilation.

    Example:
        >>> layer = conv_transpose2d(16, 3, 2, 1, 1)
        >>> layer, layer.init(lf.Key(0), torch.zeros(1, 8, 9, 9)).weight.shape
        (conv_transpose2d(16, 3, stride=2, padding=1, output_padding=1), torch.Size([8, 16, 3, 3]))
    """
    return conv_transpose(
        2, out_channels, kernel_size, stride, padding,
        output_padding, groups, bias, dilation, weight_init, bias_init,
    )  # fmt: skip


def conv_transpose3d(
    out_channels: int,
    kernel_size: int | Sizes,
    stride: int | Sizes = 1,
    padding: int | Sizes = 0,
    output_padding: int | Sizes = 0,
    *,
    groups: int = 1,
    bias: bool = True,
    dilation: int | Sizes = 1,
    weight_init: Initializer = DEFAULT_INIT,
    bias_init: Initializer = DEFAULT_INIT,
) -> Layer:
    """Make a transposed convolution of x of shape (channels, depth, height, width), or a batch.

    It takes and raises what `conv_transpose2d` does.

    Returns:
        The layer, whose params are `layers.conv_transpose.Params`.

    Example:
        >>> conv_transpose3d(8, 2, stride=(1, 2, 2))
        conv_transpose3d(8, 2, stride=(1, 2, 2))
    """
    return conv_transpose(
        3, out_channels, kernel_size, stride, padding,
        output_padding, groups, bias, dilation, weight_init, bias_init,
    )  # fmt: skip
