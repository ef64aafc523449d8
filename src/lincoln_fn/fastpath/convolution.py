"""Convolutions by ATen's pair of kernels, planes in channels-last layout.

A convolution and a transposed convolution are each other's transpose, and ATen computes both by
`convolution` and `convolution_backward`, which a flag tells apart. Zeros that are as many before as
after are left to the kernel, which pads by leaving terms out. Forward and backward together take
0.5 to 0.75 of the formula's time on one core, and a quarter where each channel is a group. Most of
that is dW, for which the formula runs a convolution whose kernel is as large as g.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.fastpath._layout import channels_last
from lincoln_fn.fastpath.padding import fold, pad
from lincoln_fn.fastpath.twin import Twin
from lincoln_fn.layers import _conv, conv, conv_transpose
from lincoln_fn.layers._conv_axes import conv_axes, conv_transpose_axes
from lincoln_fn.layers._padding import Amounts, check_amounts
from lincoln_fn.layers._spatial import Sizes, check_image
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input, check_params


class Arguments(NamedTuple):
    """How a kernel moves over its input, axis by axis, in the order of ATen's arguments."""

    stride: Sizes
    padding: Sizes
    dilation: Sizes
    transposed: bool
    output_padding: Sizes
    groups: int


@record
class Cache:
    """The input that the kernel ran over, how, and what was padded before it: () if nothing."""

    x: Float[Tensor, "*batch in_channels *padded"]
    arguments: Arguments = static()
    amounts: Amounts = static(default=())
    mode: str = static(default="constant")


def conv_forward(
    params: conv.Params,
    x: Float[Tensor, "*batch in_channels *spatial"],
    *,
    stride: int | Sizes = 1,
    padding: int | Sizes | str = 0,
    dilation: int | Sizes = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> tuple[Float[Tensor, "*batch out_channels *positions"], Cache]:
    """Compute what the formula does, padding where the kernel does not."""
    check_input("conv", params, x, conv.Params)
    weight = params.weight
    layer, n = _conv.named("conv", weight), weight.ndim - 2
    check_image(layer, x, n, weight.shape[1] * groups)
    (steps, dilations, _), amounts, mode = conv_axes(
        layer, tuple(weight.shape[2:]), stride, padding, dilation, groups, padding_mode
    )
    nothing = within = (0,) * n
    if mode == "constant" and all(before == after for before, after in amounts):
        within, amounts = tuple(before for before, _ in amounts), ()
    else:
        check_amounts(layer, x, amounts, mode)
        x = pad(x, amounts, mode)
    arguments = Arguments(steps, within, dilations, False, nothing, groups)
    x = _in_layout(x, weight)
    return _run(layer, params, x, arguments), Cache(x, arguments, amounts, mode)


def conv_transpose_forward(
    params: conv_transpose.Params,
    x: Float[Tensor, "*batch in_channels *spatial"],
    *,
    stride: int | Sizes = 1,
    padding: int | Sizes = 0,
    output_padding: int | Sizes = 0,
    groups: int = 1,
    dilation: int | Sizes = 1,
) -> tuple[Float[Tensor, "*batch out_channels *positions"], Cache]:
    """Compute what the formula does."""
    check_input("conv_transpose", params, x, conv_transpose.Params)
    weight = params.weight
    layer, n = _conv.named("conv_transpose", weight), weight.ndim - 2
    check_image(layer, x, n, len(weight))
    (steps, dilations, _), taken, more = conv_transpose_axes(
        layer, n, stride, padding, output_padding, groups, dilation
    )
    arguments = Arguments(steps, taken, dilations, True, more, groups)
    x = _in_layout(x, weight)
    return _run(layer, params, x, arguments), Cache(x, arguments)


def backward(
    kind: type[Any], params: Any, cache: Cache, g: Float[Tensor, "*batch channels *positions"]
) -> tuple[Float[Tensor, "*batch in_channels *spatial"], Any]:  # Any: Params of either formula
    """Compute dx, dW and db by one call of the kernel."""
    dx, dweight, dbias = _gradients(kind, params, cache, g, dx=True, dparams=True)
    return _folded(cache, dx), kind(dweight, dbias)


def input_grad(
    kind: type[Any], params: Any, cache: Cache, g: Float[Tensor, "*batch channels *positions"]
) -> Float[Tensor, "*batch in_channels *spatial"]:
    """Compute dx alone."""
    return _folded(cache, _gradients(kind, params, cache, g, dx=True, dparams=False)[0])


def grads(
    kind: type[Any], params: Any, cache: Cache, g: Float[Tensor, "*batch channels *positions"]
) -> Any:  # Any: as above
    """Compute dW and db alone."""
    return kind(*_gradients(kind, params, cache, g, dx=False, dparams=True)[1:])


def _run(layer: str, params: Any, x: Tensor, arguments: Arguments) -> Tensor:
    """Run the forward kernel."""
    weight = params.weight
    shape = y_shape(x, weight, arguments)
    spatial = weight.ndim - 2
    _conv.check_fit(layer, x, weight, params.bias, shape[-spatial - 1], shape[-spatial:])
    batched = x if x.ndim == weight.ndim else x[None]
    y = torch.convolution(batched, weight, params.bias, *arguments)
    return y if x.ndim == weight.ndim else y[0]


def _gradients(
    kind: type[Any], params: Any, cache: Cache, g: Tensor, *, dx: bool, dparams: bool
) -> tuple[Any, Any, Any]:  # Any: the caller knows which are tensors
    """Run the backward kernel for what is wanted; the rest is None."""
    family = kind.__module__.rpartition(".")[2]
    check_params(family, params, kind)
    weight = params.weight
    layer = _conv.named(family, weight)
    check_cache(layer, cache, Cache)
    x, arguments = cache.x, cache.arguments
    check_cotangent(layer, g, x, y_shape(x, weight, arguments))
    is_batched = x.ndim == weight.ndim
    g, x = (g, x) if is_batched else (g[None], x[None])
    wanted = (dx, dparams, dparams and params.bias is not None)
    of_x, dweight, dbias = torch.ops.aten.convolution_backward(
        _in_layout(g, weight), x, weight, [g.shape[1]], *arguments, wanted
    )
    return of_x if is_batched or of_x is None else of_x[0], dweight, dbias


def _folded(cache: Cache, dx: Tensor) -> Tensor:
    """Fold dx of the padded input back onto x."""
    return fold(dx, cache.amounts, cache.mode) if cache.amounts else dx


def y_shape(x: Tensor, weight: Tensor, arguments: Arguments) -> Sizes:
    """Compute the shape of y, which has sizes below 1 where the kernel does not fit."""
    n = weight.ndim - 2
    stride, padding, dilation, transposed, more, groups = arguments
    geometry, own = _conv.Geometry(stride, dilation, groups), x.shape[-n:]
    if transposed:
        reached = _conv.reach(own, weight, geometry)
        axes = zip(reached, padding, more, strict=True)
        channels, spatial = weight.shape[1] * groups, tuple(size - 2 * q + m for size, q, m in axes)
    else:
        padded = tuple(size + 2 * q for size, q in zip(own, padding, strict=True))
        channels, spatial = len(weight), _conv.fits(padded, weight, geometry)
    return (*x.shape[: -n - 1], channels, *spatial)


def _in_layout(x: Tensor, weight: Tensor) -> Tensor:
    """Give x, or g, the layout in which the kernels are fastest."""
    return channels_last(x, max(weight.shape[0], x.shape[1])) if weight.ndim == 4 else x


def _twin(formula: ModuleType, forward: Any) -> Twin:  # Any: either forward
    own = {f.__name__: partial(f, formula.Params) for f in (backward, input_grad, grads)}
    return Twin(formula, forward=forward, **own)


TWINS: Final = (_twin(conv, conv_forward), _twin(conv_transpose, conv_transpose_forward))
