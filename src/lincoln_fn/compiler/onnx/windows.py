"""Convolutions and max-pooling, in ONNX's operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from lincoln_fn.compiler.onnx.writer import Rows, UnknownOperationError, Value, Writer

aten = torch.ops.aten


def _convolution(
    write: Writer, out: Value, x: Value, weight: Value, bias: Value | None,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int,
) -> str:  # fmt: skip
    n = len(weight.shape) - 2
    strides, pads, dilations, more = (
        list(sizes) * (n if len(sizes) == 1 else 1)
        for sizes in (stride, padding, dilation, output_padding)
    )
    attributes = {
        "strides": strides,
        "dilations": dilations,
        "group": groups,
        "kernel_shape": list(weight.shape[2:]),
    }
    if not transposed:
        inputs = [part.name for part in (x, weight, bias) if part is not None]
        return write.add("Conv", *inputs, pads=pads * 2, **attributes)
    # More at the end is less padding there. What lies beyond all of x's windows is 0.
    ends = [pad - extra for pad, extra in zip(pads, more, strict=True)]
    cut = [max(end, 0) for end in ends]
    y = write.add("ConvTranspose", x.name, weight.name, pads=[*pads, *cut], **attributes)
    if cut != ends:
        beyond = [keep - end for keep, end in zip(cut, ends, strict=True)]
        axes = write.ints(list(range(2, n + 2)))
        amounts = write.ints([0] * n + beyond)
        y = write.add("Pad", y, amounts, write.constant(0.0, out.dtype), axes)
    if bias is None:
        return y
    return write.add("Add", y, write.add("Reshape", bias.name, write.ints([-1, *[1] * n])))


def _max_pool(
    write: Writer, out: Sequence[Value], x: Value, kernel_size: Sequence[int],
    stride: Sequence[int] = (), padding: Sequence[int] = (0,), dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> list[str]:  # fmt: skip
    kernel, strides, pads, dilations = (
        list(sizes) * (2 if len(sizes) == 1 else 1)
        for sizes in (kernel_size, stride or kernel_size, padding, dilation)
    )
    y, places = write.add_many(
        "MaxPool", [x.name], 2, kernel_shape=kernel, strides=strides, pads=pads * 2,
        dilations=dilations, ceil_mode=int(ceil_mode),
    )  # fmt: skip
    # ONNX counts the places over the whole tensor, and torch within each plane.
    return [y, write.add("Mod", places, write.constant(_area(x), torch.int64))]


def _max_pool_backward(
    write: Writer, out: Value, g: Value, x: Value, kernel_size: Sequence[int],
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], ceil_mode: bool,
    places: Value,
) -> str:  # fmt: skip
    # ONNX's own places are those before `Mod` in `_max_pool`. For a window of nan, older runtimes
    # give a negative one.
    own = write.makers[places.name].input[0]
    own = write.add("Max", own, write.constant(0, torch.int64))
    options = {"kernel_shape": list(kernel_size), "strides": list(stride or kernel_size)}
    return write.add("MaxUnpool", g.name, own, write.shape(x.shape), **options)


def _area(x: Value) -> int:
    height, width = x.shape[-2:]
    if not isinstance(height, int) or not isinstance(width, int):
        raise UnknownOperationError("pooling over the examples")
    return height * width


ROWS: Final[Rows] = {
    aten.convolution: _convolution, aten.max_pool2d_with_indices: _max_pool,
    aten.max_pool2d_with_indices_backward: _max_pool_backward,
}  # fmt: skip
