"""How causal convolutions decode: the last inputs are kept.

A causal convolution is padding before the text and a convolution without padding of its own:

    lf.zero_pad1d(((kernel_size - 1) * dilation, 0)), lf.conv1d(n, kernel_size, dilation=dilation)

The padding enters the first window, which the convolution begins with. So no step pads.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from lincoln_fn.core import LayerError, record, static
from lincoln_fn.decoding.row import Row, Rows
from lincoln_fn.layers import conv, pad
from lincoln_fn.layers.common.convolution import conv_axes


@record
class Window:
    """The last inputs of a convolution, along the axis of the positions."""

    x: Tensor
    axis: int = static()


@record
class Padding:
    """How many elements a step pads: those of the other axes."""

    amounts: tuple[int, ...] = static()


def _pad_init(
    params: tuple[()], x: Tensor, *, axis: int, max_length: int,
    padding: tuple[int, ...], mode: str, value: float, layer: str,
) -> Padding:  # fmt: skip
    first = 2 * (-axis - 1)  # the last axis is first in torch's order
    before, after = (*padding, *[0] * first, 0)[first : first + 2]
    if after:
        raise LayerError("", "pads after the text")
    if before and mode != "constant":
        raise LayerError("", "pads with numbers of the text; pad with a constant")
    own = (first, first + 1)
    return Padding(tuple(0 if i in own else amount for i, amount in enumerate(padding)))


def _pad_step(
    params: tuple[()], state: Padding, x: Tensor, *, position: Tensor,
    padding: tuple[int, ...], mode: str, value: float, layer: str,
) -> tuple[Tensor, Padding]:  # fmt: skip
    y, _ = pad.forward(params, x, padding=state.amounts, mode=mode, value=value, layer=layer)
    return y, state


# Any: the hyperparameters of a convolution.
def _conv_init(
    params: conv.Params, x: Tensor, *, axis: int, max_length: int, **options: Any
) -> Window:
    kernel = tuple(params.weight.shape[2:])
    geometry, amounts, _ = conv_axes("conv", kernel, **options)
    i = len(kernel) + axis
    if i < 0:
        raise LayerError("", f"has no kernel along axis {axis}, where the positions are")
    if geometry.stride[i] > 1:
        raise LayerError("", "has a stride, so that it skips positions")
    if any(amounts[i]):
        raise LayerError("", "pads after the text; put a zero_pad1d((n, 0)) before it")
    reach = (kernel[i] - 1) * geometry.dilation[i]
    # Of the input of one position, all but the last entry are padding.
    return Window(x.narrow(axis, x.shape[axis] - 1 - reach, reach), axis)


def _conv_step(
    params: conv.Params, state: Window, x: Tensor, *, position: Tensor, **options: Any
) -> tuple[Tensor, Window]:
    """Convolve the last inputs and those of this step."""
    joined = torch.cat([state.x, x], state.axis)
    reach = state.x.shape[state.axis]
    last = joined.narrow(state.axis, joined.shape[state.axis] - reach, reach)
    return conv.forward(params, joined, **options)[0], Window(last, state.axis)


ROWS: Final[Rows] = {
    pad: Row(_pad_init, _pad_step, pads=True),
    conv: Row(_conv_init, _conv_step, pads=True),
}
