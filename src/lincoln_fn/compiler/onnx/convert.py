"""From graphs of torch operations, traced for some batch sizes, to one ONNX graph.

The operations that read and write at places, by index and in windows, have their rows here.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from operator import getitem
from typing import Final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.onnx import arrays, elementwise
from lincoln_fn.compiler.onnx.arrays import axis_of
from lincoln_fn.compiler.onnx.elementwise import Operand, operand
from lincoln_fn.compiler.onnx.writer import Rows, UnknownOperationError, Value, Writer, fit
from lincoln_fn.fastpath import Argument

aten = torch.ops.aten


def _gather(write: Writer, out: Value, x: Value, dim: int, index: Value, *_: object) -> str:
    if not x.shape:
        return write.add("Reshape", x.name, write.shape(out.shape))
    indices = write.cast(index, torch.int64)
    return write.add("GatherElements", x.name, indices, axis=axis_of(dim, len(x.shape)))


def _scatter(
    write: Writer, out: Value, x: Value, dim: int, index: Value, source: Operand,
    reduce: str | None = None,
) -> str:  # fmt: skip
    source_name = operand(write, source, out.dtype)
    if not isinstance(source, Value):
        source_name = write.add("Expand", source_name, write.shape(index.shape))
    elif source.shape != index.shape:
        starts, ends = write.ints([0] * len(index.shape)), write.shape(index.shape)
        source_name = write.add("Slice", source_name, starts, ends)
    kinds = {None: "none", "sum": "add", "add": "add", "prod": "mul", "amax": "max", "amin": "min"}
    if reduce not in kinds:
        raise UnknownOperationError(f"scatter with reduce={reduce}")
    axis, indices = axis_of(dim, len(x.shape)), write.cast(index, torch.int64)
    return write.add(
        "ScatterElements", x.name, indices, source_name, axis=axis, reduction=kinds[reduce]
    )


def _index_select(write: Writer, out: Value, x: Value, dim: int, index: Value) -> str:
    axis = axis_of(dim, len(x.shape))
    return write.add("Gather", x.name, write.cast(index, torch.int64), axis=axis)


def _embedding(write: Writer, out: Value, weight: Value, index: Value, *_: object) -> str:
    return _index_select(write, out, weight, 0, index)


def _coordinates(write: Writer, indices: Sequence[Value]) -> str:
    """Stack indices of one shape in a new last axis."""
    ndim = len(indices[0].shape)
    names = [write.cast(index, torch.int64) for index in indices]
    parts = [write.add("Unsqueeze", name, write.ints([ndim])) for name in names]
    return write.add("Concat", *parts, axis=ndim)


def _index(write: Writer, out: Value, x: Value, indices: Sequence[Value | None]) -> str:
    present = {axis: index for axis, index in enumerate(indices) if index is not None}
    if len(present) == 1:
        return _index_select(write, out, x, *present.popitem())
    return write.add("GatherND", x.name, _coordinates(write, [*present.values()]))


def _index_put(
    write: Writer, out: Value, x: Value, indices: Sequence[Value], source: Value,
    accumulate: bool = False,
) -> str:  # fmt: skip
    if any(index.dtype is torch.bool for index in indices):
        raise UnknownOperationError("a mask as an index; use torch.where")
    reduction = "add" if accumulate else "none"
    at, name = _coordinates(write, indices), write.cast(source, x.dtype)
    return write.add("ScatterND", x.name, at, name, reduction=reduction)


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


def _area(x: Value) -> int:
    height, width = x.shape[-2:]
    if not isinstance(height, int) or not isinstance(width, int):
        raise UnknownOperationError("pooling over the examples")
    return height * width


_AT_PLACES: Final[Rows] = {
    aten.gather: _gather, aten.scatter: _scatter, aten.scatter_reduce: _scatter,
    aten.embedding: _embedding, aten.index_select: _index_select, aten.index: _index,
    aten.index_put: _index_put, aten.convolution: _convolution,
    aten.max_pool2d_with_indices: _max_pool,
}  # fmt: skip


# Arguments that an output's dtype says, or that say nothing of its numbers; alpha is 1 here.
_LEFT_OUT: Final = (
    "dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking", "alpha",
)  # fmt: skip
ROWS: Final[Rows] = {**elementwise.ROWS, **arrays.ROWS, **_AT_PLACES}


def convert(
    write: Writer, graphs: Sequence[GraphModule], batches: Sequence[int], inputs: Sequence[str]
) -> tuple[list[Value], list[Value]]:
    """Write the operations of graphs that differ in their batch size alone: inputs and outputs."""
    values: dict[Node, Argument] = {}  # a value, or a list of values
    names = iter(inputs)
    outputs: list[Value] = []
    for nodes in zip(*(graph.graph.nodes for graph in graphs), strict=True):
        node = nodes[0]
        if any(other.op != node.op or str(other.target) != str(node.target) for other in nodes):
            raise UnknownOperationError("its operations depend on the number of examples")
        if node.op == "placeholder":
            values[node] = _value(next(names), [n.meta["val"] for n in nodes], batches)
        elif node.op == "output":
            outputs = [values[part] for part in node.args[0]]
        elif node.op == "get_attr":
            tensors = [getattr(graph, str(node.target)) for graph in graphs]
            values[node] = _constant(write, tensors, batches)
        elif node.target is getitem:
            whole, index = node.args
            values[node] = values[whole][index]
        else:
            values[node] = _converted(write, nodes, batches, values)
    return [values[node] for node in graphs[0].graph.find_nodes(op="placeholder")], outputs


def _converted(
    write: Writer, nodes: Sequence[Node], batches: Sequence[int], values: dict[Node, Argument]
) -> Value | list[Value]:
    node, fakes = nodes[0], [n.meta["val"] for n in nodes]
    row = ROWS.get(getattr(node.target, "overloadpacket", None))
    if row is None:
        raise UnknownOperationError(f"{node.target} has no counterpart")
    merged = [_merged([n.args[i] for n in nodes], batches, values) for i in range(len(node.args))]
    named = {
        name: _merged([n.kwargs[name] for n in nodes], batches, values)
        for name in node.kwargs
        if name not in _LEFT_OUT
    }
    try:
        signature(row).bind(write, fakes, *merged, **named)
    except TypeError:
        options = ", ".join(f"{name}={value}" for name, value in named.items())
        problem = f"{node.target} has no counterpart with {options or 'these arguments'}"
        raise UnknownOperationError(problem) from None
    if isinstance(fakes[0], list | tuple):
        out = [_value("", parts, batches) for parts in zip(*fakes, strict=True)]
        names = row(write, out, *merged, **named)
        return [Value(name, part.shape, part.dtype) for name, part in zip(names, out, strict=True)]
    one = _value("", fakes, batches)
    return Value(row(write, one, *merged, **named), one.shape, one.dtype)


def _constant(write: Writer, tensors: Sequence[Tensor], batches: Sequence[int]) -> Value:
    """Write a constant of the graphs; a number may depend on the batch size."""
    first = tensors[0]
    if first.ndim == 0:
        error = 8 * torch.finfo(first.dtype).eps if first.is_floating_point() else 0.0
        number = fit([tensor.item() for tensor in tensors], batches, error)
        name = write.scalar(number, first.dtype)
    elif all(torch.equal(first, tensor) for tensor in tensors):
        name = write.constant(first, first.dtype)
    else:
        raise UnknownOperationError("a constant tensor depends on the batch size")
    return Value(name, tuple(first.shape), first.dtype)


def _merged(
    arguments: Sequence[Argument], batches: Sequence[int], values: dict[Node, Argument]
) -> Argument:
    """Turn what an operation was given for each batch size into one argument."""
    first = arguments[0]
    if isinstance(first, Node):
        return values[first]
    if isinstance(first, list | tuple):
        return [_merged(parts, batches, values) for parts in zip(*arguments, strict=True)]
    return fit(arguments, batches)


def _value(name: str, fakes: Sequence[torch.Tensor], batches: Sequence[int]) -> Value:
    shapes = zip(*(fake.shape for fake in fakes), strict=True)
    shape = tuple(fit([int(n) for n in sizes], batches) for sizes in shapes)
    return Value(name, shape, fakes[0].dtype)
