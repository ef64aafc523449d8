"""Convolution over one, two or three spatial axes, as deep learning names cross-correlation.

With s the stride, d the dilation and the sum over the input channels c of o's group and the places
k of the kernel, where x is padded first (t its padded positions),

    y_o[p] = b_o + sum_c,k W_o,c[k] x_c[s p + d k].

Derivation. p, k, t and the products s p and d k are vectors with one number a spatial axis. x_c[t]
meets W_o,c[k] in each y_o[p] with s p + d k = t, and so

    dx_c[t]    = sum_o sum_p,k: s p + d k = t  g_o[p] W_o,c[k]
                                    the transposed convolution of g with W, over o of c's group
    dW_o,c[k]  = sum_p g_o[p] x_c[s p + d k]
                                    the correlation of x with g, summed over the batch
    db_o       = sum_p g_o[p]       summed over batch and positions

and dx of the padded x is folded back onto x as `layers/_padding.py` derives. Zeros of the same
number on both sides are left to the kernel, which pads and folds by leaving terms out.

Cache: x, padded if the kernel does not pad it; how the kernel was laid over it; what was padded.
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
from lincoln_fn.layers._conv_axes import conv_axes
from lincoln_fn.layers._padding import Amounts, check_amounts, pad, pad_backward
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
    """The kernels, one for each channel of y, and its bias, or None for a layer without one."""

    weight: Float[Tensor, "out_channels group_channels *kernel"]
    bias: Float[Tensor, " out_channels"] | None


@record
class Cache:
    """The input that the kernel ran over, how, and what was padded before it: () if nothing."""

    x: Float[Tensor, "*batch in_channels *padded"]
    geometry: Geometry = static()
    amounts: Amounts = static()
    mode: str = static()


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
    in_channels = check_example(f"conv{n}d", x, n, groups)
    shape = (out_channels, in_channels // groups, *kernel_size)
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
    padding: int | Sizes | str = 0,
    dilation: int | Sizes = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> tuple[Float[Tensor, "*batch out_channels *positions"], Cache]:
    """Compute y_o[p] = b_o + sum_c,k W_o,c[k] x_c[s p + d k].

    Args:
        params: weight and bias; the weight's axes tell how many spatial ones there are.
        x: of shape (channels, *spatial) or (batch, channels, *spatial).
        stride: the step s from one position to the next.
        padding: how many elements are added on both sides; "valid" adds none, and "same" as many
            as give y the size of x, the odd one after.
        dilation: the step d from one place of the kernel to the next.
        groups: the channels of x and y are divided into so many groups, apart from each other.
        padding_mode: "zeros", "reflect", "replicate" or "circular".

    Returns:
        y, over planes on the CPU in channels-last order, and the cache.

    Raises:
        LayerError: if x does not fit the weight, the padding or the groups, or params are another
            layer's.

    Example:
        >>> params = Params(torch.tensor([[[1.0, 10.0]]]), torch.tensor([0.5]))
        >>> forward(params, torch.tensor([[[1.0, 2.0, 3.0]]]), padding="same")[0]
        tensor([[[21.5000, 32.5000,  3.5000]]])
    """
    check_input("conv", params, x, Params)
    weight = params.weight
    layer, n = named("conv", weight), weight.ndim - 2
    check_image(layer, x, n, weight.shape[1] * groups)
    steps, dilations, amounts, mode = conv_axes(
        layer, tuple(weight.shape[2:]), stride, padding, dilation, padding_mode
    )
    nothing = within = (0,) * n
    if mode == "constant" and all(before == after for before, after in amounts):
        within, amounts = tuple(before for before, _ in amounts), ()
    else:
        check_amounts(layer, x, amounts, mode)
        x = pad(x, amounts, mode)
    geometry = Geometry(steps, within, dilations, False, nothing, groups)
    x = in_order(x, weight)
    y = convolve(layer, x, weight, params.bias, geometry)
    return y, Cache(x, geometry, amounts, mode)


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
        >>> _, cache = forward(params, torch.tensor([[[1.0, 2.0, 3.0]]]))
        >>> backward(params, cache, torch.tensor([[[1.0, 2.0]]]))[0]
        tensor([[[ 1., 12., 20.]]])
    """
    _check_backward(params, cache, g)
    wanted = (True, True, params.bias is not None)
    dx, dweight, dbias = gradients(g, cache.x, params.weight, cache.geometry, wanted)
    return _folded(cache, dx), Params(dweight, dbias)


def input_grad(
    params: Params, cache: Cache, g: Float[Tensor, "*batch out_channels *positions"]
) -> Float[Tensor, "*batch in_channels *spatial"]:
    """Compute dx, the transposed convolution of g with W, without dparams.

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
        >>> _, cache = forward(params, torch.tensor([[[1.0, 2.0, 3.0]]]))
        >>> input_grad(params, cache, torch.tensor([[[1.0, 2.0]]]))
        tensor([[[ 1., 12., 20.]]])
    """
    _check_backward(params, cache, g)
    wanted = (True, False, False)
    dx: Tensor = gradients(g, cache.x, params.weight, cache.geometry, wanted)[0]
    return _folded(cache, dx)


def grads(
    params: Params, cache: Cache, g: Float[Tensor, "*batch out_channels *positions"]
) -> Params:
    """Compute dW_o,c[k] = sum_p g_o[p] x_c[s p + d k] and db_o = sum_p g_o[p], without dx.

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
        >>> _, cache = forward(params, torch.tensor([[[1.0, 2.0, 3.0]]]))
        >>> grads(params, cache, torch.tensor([[[1.0, 2.0]]])).weight
        tensor([[[5., 8.]]])
    """
    _check_backward(params, cache, g)
    wanted = (False, True, params.bias is not None)
    _, dweight, dbias = gradients(g, cache.x, params.weight, cache.geometry, wanted)
    return Params(dweight, dbias)


def _check_backward(params: Params, cache: Cache, g: Tensor) -> None:
    check_params("conv", params, Params)
    layer = named("conv", params.weight)
    check_cache(layer, cache, Cache)
    check_cotangent(layer, g, cache.x, output_shape(cache.x, params.weight, cache.geometry))


def _folded(cache: Cache, dx: Tensor) -> Tensor:
    """Fold dx of the padded input back onto x."""
    if not cache.amounts:
        return dx
    n = len(cache.amounts)
    sizes = zip(dx.shape[-n:], cache.amounts, strict=True)
    shape = (*dx.shape[:-n], *(size - sum(pair) for size, pair in sizes))
    return pad_backward(dx, shape, cache.amounts, cache.mode)
