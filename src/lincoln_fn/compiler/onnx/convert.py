"""From graphs of torch operations, traced for some batch sizes, to one ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from operator import getitem
from typing import Final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.onnx import arrays, elementwise, places
from lincoln_fn.compiler.onnx.writer import Rows, UnknownOperationError, Value, Writer, fit
from lincoln_fn.fastpath import Argument

# Arguments that an output's dtype says, or that say nothing of its numbers; alpha is 1 here.
_LEFT_OUT: Final = (
    "dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking", "alpha",
)  # fmt: skip
ROWS: Final[Rows] = {**elementwise.ROWS, **arrays.ROWS, **places.ROWS}


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
    kind = getattr(node.target, "overloadpacket", None)
    row = ROWS.get(kind)
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
