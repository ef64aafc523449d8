"""Transposed convolution over one, two or three spatial axes: the gradient of a convolution.

With s the stride, d the dilation, q the padding, c an input channel of o's group and k a place of
the kernel, each x_c[p] lays W_c,o, times itself, over y from position s p - q on:

    y_o[t] = b_o + sum_c sum_p,k: s p + d k - q = t  W_c,o[k] x_c[p].

Derivation. p, k, t and the products s p and d k are vectors with one number a spatial axis. x_c[p]
meets W_c,o[k] in y_o[s p + d k - q] alone, where that lies within y, and so

    dx_c[p]   = sum_o,k W_c,o[k] g_o[s p + d k - q]
                                    the convolution of g, padded by q, with W, over o of c's group
    dW_c,o[k] = sum_p x_c[p] g_o[s p + d k - q]
                                    the correlation of g with x, summed over the batch
    db_o      = sum_t g_o[t]        summed over batch and positions

where g is 0 outside. Cache: x, and how the kernel was laid.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.initializers import Initializer
from lincoln_fn.keys import Key
from lincoln_fn.layers._conv import (
    Geometry,
    check_example,
    convolve,
    gradients,
    in_order,
    init_tensors,
    named,
    output_shape,
)
from lincoln_fn.layers._conv_axes import conv_transpose_axes
from lincoln_fn.layers._spatial import Sizes, check_image
from lincoln_fn.record import record, static
from lincoln_fn.shapes import (
    check_cache,
    check_cotangent,
    check_input,
    check_params,
)


@record
class Params:
    """The kernels, for each channel of x, and y's bias, or None for a layer without one."""

    weight: Float[Tensor, "in_channels group_channels *kernel"]
    bias: Float[Tensor, " out_channels"] | None


@record
class Cache:
    """The input, and how the kernel was laid over the output."""

    x: Float[Tensor, "*batch in_channels *spatial"]
    geometry: Geometry = static()


def init(
    key: Key,
    x: Float[Tensor, "*batch in_channels *spatial"],
    *,
    out_channels: int,
    kernel_size: Sizes,
    groups: int,
    bias: bool,
    weight_init: Initializer,
    bias_init: Initializer,
) -> Params:
    """Make parameters for inputs like x.

    Args:
        key: what the initial values are drawn from.
        x: an example input, of which only shape, dtype and device count.
        out_channels: the number of channels of y.
        kernel_size: one number a spatial axis.
        groups: what the channels of x and y are divided into.
        bias: whether there is a bias.
        weight_init: draws the weight.
        bias_init: draws the bias.

    Returns:
        The parameters, in x's dtype and on its device.

    Raises:
        LayerError: if x is not a floating tensor of shape (channels, *spatial) or (batch,
            channels, *spatial), with channels that groups divides.
    """
    n = len(kernel_size)
    in_channels = check_example(f"conv_transpose{n}d", x, n, groups)
    shape = (in_channels, out_channels // groups, *kernel_size)
    return Params(
        *init_tensors(
            key, x, shape, out_channels, bias=bias, weight_init=weight_init, bias_init=bias_init
        )
    )


def forward(
    params: Params,
    x: Float[Tensor, "*batch in_channels *spatial"],
    *,
    stride: int | Sizes = 1,
    padding: int | Sizes = 0,
    output_padding: int | Sizes = 0,
    groups: int = 1,
    dilation: int | Sizes = 1,
) -> tuple[Float[Tensor, "*batch out_channels *positions"], Cache]:
    """Compute y_o[t] = b_o + sum_c sum_p,k: s p + d k - q = t  W_c,o[k] x_c[p].

    Args:
        params: weight and bias; the weight's axes tell how many spatial ones there are.
        x: of shape (channels, *spatial) or (batch, channels, *spatial).
        stride: the step s in y from one element of x to the next.
        padding: how many elements q are taken off y on both sides.
        output_padding: how many are added to y at its end, less than stride or dilation: which of
            the sizes that a convolution takes to x's size y has.
        groups: the channels of x and y are divided into so many groups, apart from each other.
        dilation: the step d from one place of the kernel to the next.

    Returns:
        y, over planes on the CPU in channels-last order, and the cache.

    Raises:
        LayerError: if x does not fit the weight or the groups, y would be empty, or params are
            another layer's.

    Example:
        >>> params = Params(torch.tensor([[[1.0, 10.0]]]), torch.tensor([0.5]))
        >>> forward(params, torch.tensor([[[1.0, 2.0]]]))[0]
        tensor([[[ 1.5000, 12.5000, 20.5000]]])
    """
    check_input("conv_transpose", params, x, Params)
    layer, n = named("conv_transpose", params.weight), params.weight.ndim - 2
    check_image(layer, x, n, params.weight.shape[0])
    geometry = conv_transpose_axes(layer, n, stride, padding, output_padding, groups, dilation)
    x = in_order(x, params.weight)
    return convolve(layer, x, params.weight, params.bias, geometry), Cache(x, geometry)


def backward(
    params: Params, cache: Cache, g: Float[Tensor, "*batch out_channels *positions"]
) -> tuple[Float[Tensor, "*batch in_channels *spatial"], Params]:
    """Compute dx as `input_grad` does, and dparams as `grads` does.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx and dparams.

    Raises:
        LayerError: if g or the cache do not fit the parameters.

    Example:
        >>> params = Params(torch.tensor([[[1.0, 10.0]]]), torch.tensor([0.5]))
        >>> _, cache = forward(params, torch.tensor([[[1.0, 2.0]]]))
        >>> backward(params, cache, torch.tensor([[[1.0, 2.0, 3.0]]]))[0]
        tensor([[[21., 32.]]])
    """
    _check_backward(params, cache, g)
    wanted = (True, True, params.bias is not None)
    dx, dweight, dbias = gradients(g, cache.x, params.weight, cache.geometry, wanted)
    return dx, Params(dweight, dbias)


def input_grad(
    params: Params, cache: Cache, g: Float[Tensor, "*batch out_channels *positions"]
) -> Float[Tensor, "*batch in_channels *spatial"]:
    """Compute dx, the convolution of g with W, without dparams.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape.

    Raises:
        LayerError: if g or the cache do not fit the parameters.

    Example:
        >>> params = Params(torch.tensor([[[1.0, 10.0]]]), torch.tensor([0.5]))
        >>> _, cache = forward(params, torch.tensor([[[1.0, 2.0]]]))
        >>> input_grad(params, cache, torch.tensor([[[1.0, 2.0, 3.0]]]))
        tensor([[[21., 32.]]])
    """
    _check_backward(params, cache, g)
    wanted = (True, False, False)
    dx: Tensor = gradients(g, cache.x, params.weight, cache.geometry, wanted)[0]
    return dx


def grads(
    params: Params, cache: Cache, g: Float[Tensor, "*batch out_channels *positions"]
) -> Params:
    """Compute dW_c,o[k] = sum_p x_c[p] g_o[s p + d k - q] and db_o = sum_t g_o[t], without dx.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dparams.

    Raises:
        LayerError: if g or the cache do not fit the parameters.

    Example:
        >>> params = Params(torch.tensor([[[1.0, 10.0]]]), torch.tensor([0.5]))
        >>> _, cache = forward(params, torch.tensor([[[1.0, 2.0]]]))
        >>> grads(params, cache, torch.tensor([[[1.0, 2.0, 3.0]]])).weight
        tensor([[[5., 8.]]])
    """
    _check_backward(params, cache, g)
    wanted = (False, True, params.bias is not None)
    _, dweight, dbias = gradients(g, cache.x, params.weight, cache.geometry, wanted)
    return Params(dweight, dbias)


def _check_backward(params: Params, cache: Cache, g: Tensor) -> None:
    check_params("conv_transpose", params, Params)
    layer = named("conv_transpose", params.weight)
    check_cache(layer, cache, Cache)
    check_cotangent(layer, g, cache.x, output_shape(cache.x, params.weight, cache.geometry))
