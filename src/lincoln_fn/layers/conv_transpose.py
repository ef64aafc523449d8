"""Transposed convolution over one, two or three spatial axes: the gradient of a convolution.

With s the stride, d the dilation, q the padding, c an input channel of o's group and k a position
in the kernel, each x_c[p] adds x_c[p] W_(c,o) to y_o, starting at position s p - q:

    y_o[t] = b_o + sum_c sum_(p,k: s p + d k - q = t) W_(c,o)[k] x_c[p]

Derivation. p, k, t and the products s p and d k are vectors with one number per spatial axis.
x_c[p] is multiplied by W_(c,o)[k] only in y_o[s p + d k - q], if that is within y, and so

    dx_c[p] = sum_(o,k) W_(c,o)[k] g_o[s p + d k - q]    over o of c's group
    dW_(c,o)[k] = sum_p x_c[p] g_o[s p + d k - q]    summed over the batch, too
    db_o = sum_t g_o[t]    likewise

where g is 0 outside. dx is the convolution of g, padded by q, with W, and dW the correlation of
the padded g with x.

Cache: x; the shape of y; the stride, the dilation and the groups; both paddings.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, NonNegativeSizes, PositiveInt, PositiveSizes, Sizes
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layers import pad
from lincoln_fn.layers.common import convolution
from lincoln_fn.layers.common.convolution import Geometry, conv_transpose_axes, kernel_axes
from lincoln_fn.layers.common.inputs import check_image

DEFAULT_INIT: Final = fan_in_uniform()


@core.record
class Params:
    """The kernels, for each channel of x, and y's bias, or None for a layer without one."""

    weight: Float[Tensor, "in_channels group_channels *kernel"]
    bias: Float[Tensor, " out_channels"] | None


@core.record
class Cache:
    x: core.ConvInput
    y: core.Like = core.static()
    geometry: Geometry = core.static()
    padding: Sizes = core.static()
    output_padding: Sizes = core.static()


def init(
    key: Key, x: core.ConvInput, *, out_channels: int, kernel_size: Sizes, groups: int, bias: bool,
    weight_init: Initializer, bias_init: Initializer,
) -> Params:  # fmt: skip
    """Draw W of shape (in_channels, out_channels / groups, *kernel_size), and b."""
    sizes = kernel_size, groups, out_channels
    return Params(*convolution.draw("conv_transpose", key, x, *sizes, bias, weight_init, bias_init))


def forward(
    params: Params, x: core.ConvInput, *, stride: int | Sizes, padding: int | Sizes,
    output_padding: int | Sizes, groups: int, dilation: int | Sizes,
) -> tuple[core.ConvOutput, Cache]:  # fmt: skip
    """Compute y_o[t] = b_o + sum_c sum_(p,k: s p + d k - q = t) W_(c,o)[k] x_c[p]."""
    weight = params.weight
    layer, n = convolution.named("conv_transpose", weight), weight.ndim - 2
    check_image(layer, x, n, len(weight))
    axes = conv_transpose_axes(layer, n, stride, padding, output_padding, groups, dilation)
    reached = zip(convolution.reach(x.shape[-n:], weight, axes[0]), *axes[1:], strict=True)
    sizes = tuple(size - 2 * q + more for size, q, more in reached)
    convolution.check_fit(layer, x, weight, params.bias, weight.shape[1] * groups, sizes)
    y = convolution.convolve_transposed(x, weight, params.bias, *axes)
    return y, Cache(x, core.Like.of(y), *axes)


def backward(params: Params, cache: Cache, g: core.ConvOutput) -> tuple[core.ConvInput, Params]:
    """Compute dx as `input_grad` does, and dparams as `grads` does."""
    return input_grad(params, cache, g), grads(params, cache, g)


def input_grad(params: Params, cache: Cache, g: core.ConvOutput) -> core.ConvInput:
    """Compute dx_c[p] = sum_(o,k) W_(c,o)[k] g_o[s p + d k - q]."""
    return convolution.convolve(_padded(cache, g), params.weight, None, cache.geometry)


def grads(params: Params, cache: Cache, g: core.ConvOutput) -> Params:
    """Compute dW_(c,o)[k] = sum_p x_c[p] g_o[s p + d k - q] and db_o = sum_t g_o[t]."""
    dweight = convolution.weight_gradient(cache.x, _padded(cache, g), params.weight, cache.geometry)
    return Params(dweight, convolution.bias_gradient(params.bias, g, cache.geometry))


def terms(params: Params, cache: Cache, g: Tensor) -> Params:
    """Return dW_n[k] = sum_p x_n[p] g_n[s p + d k - q] and db_n = sum_t g_n[t], of example n."""
    core.check_batched(convolution.named("conv_transpose", params.weight), g, params.weight.ndim)
    weight = core.Correlation(cache.x, _padded(cache, g), *cache.geometry)
    return core.mirror(params, weight=weight, bias=core.sum_axes(g, tuple(range(2, g.ndim))))


core.declare(input_grad, reads=())


def _padded(cache: Cache, g: Tensor) -> Tensor:
    """Pad g with q zeros on both sides, and cut the end that no x_c[p] reaches."""
    sides = zip(cache.padding, cache.output_padding, strict=True)
    return pad.pad(g, tuple((q, q - more) for q, more in sides), "constant")


def _conv_transpose_nd(
    n: int, out_channels: PositiveInt, kernel_size: PositiveSizes, stride: PositiveSizes = 1,
    padding: NonNegativeSizes = 0, output_padding: NonNegativeSizes = 0, *, groups: PositiveInt = 1,
    bias: bool = True, dilation: PositiveSizes = 1, weight_init: Initializer = DEFAULT_INIT,
    bias_init: Initializer = DEFAULT_INIT,
) -> Layer:  # fmt: skip
    """Compute a transposed convolution of x of shape (channels, *spatial), or of a batch of these.

    It is the gradient of a convolution, as a layer: each x_c[p] adds x_c[p] W_c,o to y_o, starting
    at position stride p - padding. x has one, two or three spatial axes, as that of `conv1d`.

    Args:
        out_channels: the number of channels of y. That of x is found from the example input.
        kernel_size: of the kernel; like the next, one number for all axes or one for each.
        stride: the step in y from one element of x to the next.
        padding: how many elements are cut off y on both sides.
        output_padding: how many are added to y at its end, less than stride or dilation. A
            convolution maps several sizes to the size of x; this chooses one of them for y.
        groups: into how many groups the channels of x and y are divided, each computed alone.
        dilation: the step from one element of the kernel to the next.
        weight_init: draws W, of shape (in_channels, out_channels / groups, *kernel_size). The
            default is torch's, which counts n_in from W's second axis: uniform within
            1 / sqrt(n_in), n_in = out_channels / groups * the kernel's size.

    Raises:
        LayerError: if groups does not divide out_channels, or output_padding is too large.

    Example:
        >>> layer = conv_transpose2d(16, 3, 2, 1, 1)
        >>> layer, layer.init(lf.Key(0), torch.zeros(1, 8, 9, 9)).weight.shape
        (conv_transpose2d(16, 3, stride=2, padding=1, output_padding=1), torch.Size([8, 16, 3, 3]))
    """
    layer = f"conv_transpose{n}d"
    kernel = kernel_axes(layer, n, out_channels, kernel_size, groups)
    conv_transpose_axes(layer, n, stride, padding, output_padding, groups, dilation)
    draw = partial(init, kernel_size=kernel)
    return core.bare(Layer, forward, backward, draw, input_grad=input_grad, grads=grads)


conv_transpose1d, conv_transpose2d, conv_transpose3d = core.over_axes(
    _conv_transpose_nd, kind="convolution", terms=terms
)
