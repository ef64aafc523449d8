"""Convolution over one, two or three spatial axes: cross-correlation, as usual in deep learning.

With s the stride and d the dilation, the sum is over the input channels c of o's group and the
positions k in the kernel. x is padded first, and t is a position in the padded x:

    y_o[p] = b_o + sum_(c,k) W_(o,c)[k] x_c[s p + d k]

Derivation. p, k, t and the products s p and d k are vectors with one number per spatial axis.
x_c[t] is multiplied by W_(o,c)[k] in each y_o[p] with s p + d k = t, and so

    dx_c[t] = sum_o sum_(p,k: s p + d k = t) g_o[p] W_(o,c)[k]    over o of c's group
    dW_(o,c)[k] = sum_p g_o[p] x_c[s p + d k]    summed over the batch, too
    db_o = sum_p g_o[p]    likewise

dx is the transposed convolution of g with W, and dW the correlation of x with g. The padding's
backward, derived in `pad`, adds dx of the padded x back onto x.

Cache: the padded x; the shape of y; the stride, the dilation and the groups; the padding.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import ConvInput, ConvOutput, Key, Layer, PositiveInt, PositiveSizes, Sizes
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layers import pad
from lincoln_fn.layers.common import convolution
from lincoln_fn.layers.common.convolution import Geometry, Padding, PaddingMode, conv_axes
from lincoln_fn.layers.common.inputs import check_image
from lincoln_fn.layers.pad import Amounts

DEFAULT_INIT: Final = fan_in_uniform()


@core.record
class Params:
    """The kernels, one for each channel of y, and its bias, or None for a layer without one."""

    weight: Float[Tensor, "out_channels group_channels *kernel"]
    bias: Float[Tensor, " out_channels"] | None


@core.record
class Cache:
    x: Float[Tensor, "*in_channels_and_padded"]
    y: core.Like = core.static()
    geometry: Geometry = core.static()
    amounts: Amounts = core.static()
    mode: str = core.static()


def init(
    key: Key, x: ConvInput, *, out_channels: int, kernel_size: Sizes, groups: int, bias: bool,
    weight_init: Initializer, bias_init: Initializer,
) -> Params:  # fmt: skip
    """Draw W of shape (out_channels, in_channels / groups, *kernel_size), and b."""
    sizes = kernel_size, groups, out_channels
    return Params(*convolution.draw("conv", key, x, *sizes, bias, weight_init, bias_init))


def forward(
    params: Params, x: ConvInput, *, stride: int | Sizes, padding: int | Sizes | str,
    dilation: int | Sizes, groups: int, padding_mode: str,
) -> tuple[ConvOutput, Cache]:  # fmt: skip
    """Compute y_o[p] = b_o + sum_(c,k) W_(o,c)[k] x_c[s p + d k]."""
    weight = params.weight
    layer, n = convolution.named("conv", weight), weight.ndim - 2
    check_image(layer, x, n, weight.shape[1] * groups)
    geometry, amounts, mode = conv_axes(
        layer, tuple(weight.shape[2:]), stride, padding, dilation, groups, padding_mode
    )
    pad.check_amounts(layer, x, amounts, mode)
    padded = pad.pad(x, amounts, mode)
    sizes = convolution.fits(padded.shape[-n:], weight, geometry)
    convolution.check_fit(layer, x, weight, params.bias, weight.shape[0], sizes)
    y = convolution.convolve(padded, weight, params.bias, geometry)
    return y, Cache(padded, core.Like.of(y), geometry, amounts, mode)


def backward(params: Params, cache: Cache, g: ConvOutput) -> tuple[ConvInput, Params]:
    """Compute dx as `input_grad` does, and dparams as `grads` does."""
    return input_grad(params, cache, g), grads(params, cache, g)


def input_grad(params: Params, cache: Cache, g: ConvOutput) -> ConvInput:
    """Compute dx_c[t] = sum_o sum_(p,k: s p + d k = t) g_o[p] W_(o,c)[k], and fold it onto x."""
    weight, geometry = params.weight, cache.geometry
    n = weight.ndim - 2
    reached = convolution.reach(g.shape[-n:], weight, geometry)
    # After the last position that the kernel reached, dx is 0.
    rest = tuple(size - own for size, own in zip(cache.x.shape[-n:], reached, strict=True))
    dx = convolution.convolve_transposed(g, weight, None, geometry, (0,) * n, rest)
    return pad.fold(dx, cache.amounts, cache.mode)


def grads(params: Params, cache: Cache, g: ConvOutput) -> Params:
    """Compute dW_(o,c)[k] = sum_p g_o[p] x_c[s p + d k] and db_o = sum_p g_o[p]."""
    dweight = convolution.weight_gradient(g, cache.x, params.weight, cache.geometry)
    return Params(dweight, convolution.bias_gradient(params.bias, g, cache.geometry))


def terms(params: Params, cache: Cache, g: Tensor) -> Params:
    """Return dW_n[k] = sum_p g_n[p] x_n[s p + d k] and db_n = sum_p g_n[p], of each example n."""
    core.check_batched(convolution.named("conv", params.weight), g, params.weight.ndim)
    weight = core.Correlation(g, cache.x, *cache.geometry)
    return core.mirror(params, weight=weight, bias=core.sum_axes(g, tuple(range(2, g.ndim))))


core.declare(input_grad, reads=())


def _conv_nd(
    n: int, out_channels: PositiveInt, kernel_size: PositiveSizes, stride: PositiveSizes = 1,
    padding: Padding = 0, *, dilation: PositiveSizes = 1, groups: PositiveInt = 1,
    bias: bool = True, padding_mode: PaddingMode = "zeros", weight_init: Initializer = DEFAULT_INIT,
    bias_init: Initializer = DEFAULT_INIT,
) -> Layer:  # fmt: skip
    """Convolve x of shape (channels, *spatial), or a batch of these.

    y_o[p] = b_o + sum_c,k W_o,c[k] x_c[stride p + dilation k], over the channels c of o's group. x
    has one, two or three spatial axes: (length), (height, width) or (depth, height, width).

    Args:
        out_channels: the number of channels of y. That of x is found from the example input.
        kernel_size: of the kernel; like the next, one number for all axes or one for each.
        stride: the step from one position to the next.
        padding: how many elements are added on both sides; "valid" adds none; "same" adds as many
            as give y the size of x, with an odd one at the end.
        dilation: the step from one element of the kernel to the next.
        groups: into how many groups the channels of x and y are divided, each computed alone.
        weight_init: draws W, of shape (out_channels, in_channels / groups, *kernel_size). The
            default is torch's: uniform within 1 / sqrt(n_in), for n_in elements of x in one of y.

    Raises:
        LayerError: if groups does not divide out_channels, or padding is "same" and stride not 1.

    Example:
        >>> layer = conv2d(16, (3, 5), 2, groups=4)
        >>> layer, layer.init(lf.Key(0), torch.zeros(1, 8, 9, 9)).weight.shape
        (conv2d(16, (3, 5), stride=2, groups=4), torch.Size([16, 2, 3, 5]))
    """
    layer = f"conv{n}d"
    kernel = convolution.kernel_axes(layer, n, out_channels, kernel_size, groups)
    conv_axes(layer, kernel, stride, padding, dilation, groups, padding_mode)
    draw = partial(init, kernel_size=kernel)
    return core.bare(Layer, forward, backward, draw, input_grad=input_grad, grads=grads)


conv1d, conv2d, conv3d = core.over_axes(_conv_nd, kind="convolution", params=Params, terms=terms)
