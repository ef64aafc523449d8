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
        list(given) * (n if len(given) == 1 else 1)
        for given in (stride, padding, dilation, output_padding)
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
    kept = [max(end, 0) for end in ends]
    y = write.add("ConvTranspose", x.name, weight.name, pads=[*pads, *kept], **attributes)
    if kept != ends:
        beyond = [keep - end for keep, end in zip(kept, ends, strict=True)]
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
    name, n = x.name, len(x.shape) - 2
    kernel, strides, pads, dilations = (
        list(given) * (2 if len(given) == 1 else 1)
        for given in (kernel_size, stride or kernel_size, padding, dilation)
    )
    if n == 1:  # one example, without an axis of examples
        name = write.add("Unsqueeze", name, write.ints([0]))
    made = write.add_many(
        "MaxPool", [name], 2, kernel_shape=kernel, strides=strides, pads=pads * 2,
        dilations=dilations, ceil_mode=int(ceil_mode),
    )  # fmt: skip
    # ONNX counts the places over the whole tensor, and torch within each plane.
    places = write.add("Mod", made[1], write.constant(_area(x), torch.int64))
    if n == 1:
        axis = write.ints([0])
        return [write.add("Squeeze", name, axis) for name in (made[0], places)]
    return [made[0], places]


def _max_pool_backward(
    write: Writer, out: Value, g: Value, x: Value, kernel_size: Sequence[int],
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], ceil_mode: bool,
    places: Value,
) -> str:  # fmt: skip
    planes = x.shape[:-2]
    strides = stride or kernel_size
    are_apart = all(s >= k for s, k in zip(strides, kernel_size, strict=True))
    is_plain = not any(padding) and set(dilation) == {1} and not ceil_mode
    if are_apart and is_plain and len(planes) == 2:
        # No place is in two windows. ONNX's own places are those before `Mod` in `_max_pool`. For
        # a window of nan, older runtimes give a negative one.
        own = write.makers[places.name].input[0]
        own = write.add("Max", own, write.constant(0, torch.int64))
        options = {"kernel_shape": list(kernel_size), "strides": list(strides)}
        return write.add("MaxUnpool", g.name, own, write.shape(x.shape), **options)
    zeros = write.add("Expand", write.constant(0.0, out.dtype), write.shape([*planes, _area(x)]))
    # -1 stands for all windows of a plane.
    flat = write.add("Concat", write.shape(planes), write.ints([-1]), axis=0)
    index, values = (write.add("Reshape", part.name, flat) for part in (places, g))
    axis = len(planes)
    summed = write.add("ScatterElements", zeros, index, values, axis=axis, reduction="add")
    return write.add("Reshape", summed, write.shape(x.shape))


def _area(x: Value) -> int:
    """Return how many places a plane has."""
    height, width = x.shape[-2:]
    if not isinstance(height, int) or not isinstance(width, int):
        raise UnknownOperationError("pooling over the examples")
    return height * width


ROWS: Final[Rows] = {
    aten.convolution: _convolution, aten.max_pool2d_with_indices: _max_pool,
    aten.max_pool2d_with_indices_backward: _max_pool_backward,
}  # fmt: skip
