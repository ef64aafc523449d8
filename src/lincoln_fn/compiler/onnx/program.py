"""A program as an ONNX model: traced at some batch sizes, converted, named and checked."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from operator import getitem
from typing import TYPE_CHECKING, Final

import attrs
import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from lincoln_fn.compiler.onnx.decompositions import decompositions
from lincoln_fn.compiler.onnx.operations import ROWS
from lincoln_fn.compiler.onnx.writer import OfBatch, Size, UnknownOperationError, Value, Writer, fit
from lincoln_fn.compiler.tracing import Program, write_down
from lincoln_fn.core import Arrays, LayerError, tree, unexpected
from lincoln_fn.fastpath import Argument
from lincoln_fn.recording import flatten

if TYPE_CHECKING:  # an extra
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

# The operations are those of this version of ONNX's set, from 2022; 8 came with it.
OPSET: Final = 18
IR_VERSION: Final = 8
# The name of the axis of examples.
BATCH: Final = "batch_size"

# Arguments that an output's dtype says, or that say nothing of its numbers; alpha is 1 here.
_LEFT_OUT: Final = (
    "dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking", "alpha",
)  # fmt: skip


@attrs.frozen
class Names:
    """The names of a model's inputs and outputs."""

    first: list[str]  # the state, or params
    batch: list[str]
    outputs: list[str]


def model_of(
    program: Program,
    first: Arrays,
    batch: Arrays,
    names: Names,
    *,
    dynamic_batch: bool,
) -> ModelProto:
    """Convert a program of two trees: the state or params, which become defaults, and a batch."""
    # ONNX's tensors have no strides. An optimizer asks for those of a column-major weight.
    first = tree.map(Tensor.contiguous, first, states=True)
    write = Writer(next(iter(names.batch), ""))
    batches = _batch_sizes(program, batch) if dynamic_batch else (0,)
    graphs = [
        _graph(program, first, _resized(batch, n) if dynamic_batch else batch) for n in batches
    ]
    try:
        inputs, outputs = convert(write, graphs, batches, [*names.first, *names.batch])
        return _model(write, flatten(first)[0], inputs, outputs, names)
    except UnknownOperationError as error:
        mend = "a path that ends in .pt2 takes every operation of torch"
        raise LayerError(program.name, f"cannot become ONNX: {error}; {mend}") from None


def _model(
    write: Writer,
    firsts: Sequence[Tensor],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    names: Names,
) -> ModelProto:
    from onnx import helper, numpy_helper

    def described(name: str, value: Value) -> ValueInfoProto:
        return helper.make_tensor_value_info(name, value.code, _axes(value.shape))

    defaults = [
        numpy_helper.from_array(leaf.detach().contiguous().numpy(), name)
        for leaf, name in zip(firsts, names.first, strict=True)
    ]
    # A prediction's program also returns a number, which has no name.
    named = list(zip(names.outputs, outputs, strict=False))
    results = [described(*result) for result in named]
    given = [described(value.name, value) for value in inputs]
    nodes = _needed(_renamed(write, named), names.outputs)
    read = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in write.constants.values() if tensor.name in read]
    return _checked(helper.make_graph(nodes, "program", given, results, [*defaults, *constants]))


def _renamed(write: Writer, named: Sequence[tuple[str, Value]]) -> list[NodeProto]:
    """Give results their names: in the node that makes each, or by a node of its own."""
    from onnx import helper

    nodes = [*write.nodes.values()]
    free = {name for node in nodes for name in node.output}
    changed: dict[str, str] = {}
    for name, value in named:
        if value.name in free and value.name not in changed:
            changed[value.name] = name
        else:  # an input, a constant, or another result, too
            nodes.append(helper.make_node("Identity", [value.name], [name]))
    for node in nodes:
        node.input[:] = [changed.get(name, name) for name in node.input]
        node.output[:] = [changed.get(name, name) for name in node.output]
    return nodes


def _needed(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> list[NodeProto]:
    read, needed = set(outputs), []
    for node in reversed(nodes):
        if not read.isdisjoint(node.output):
            read.update(node.input)
            needed.append(node)
    return needed[::-1]


def split(model: ModelProto, names: Sequence[str]) -> tuple[ModelProto, ModelProto]:
    """Divide a model into one without the defaults of these inputs, and one that returns them."""
    from onnx import helper

    graph, chosen = model.graph, set(names)
    defaults = [tensor for tensor in graph.initializer if tensor.name in chosen]
    constants = [tensor for tensor in graph.initializer if tensor.name not in chosen]
    described = [value for value in graph.input if value.name in chosen]
    program = helper.make_graph(graph.node, graph.name, graph.input, graph.output, constants)
    values = helper.make_graph([], "values", [], described, defaults)
    return _checked(program), _checked(values)


def _checked(graph: GraphProto) -> ModelProto:
    from onnx import checker, helper

    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="lincoln_fn"
    )
    checker.check_model(model)
    return model


def _graph(program: Program, first: Arrays, batch: Arrays) -> GraphModule:
    """Trace a program, without in-place operations, in torch's core operations."""
    traced = write_down(program, first, batch, here=False)
    fakes = detect_fake_mode(traced.inputs)
    assert fakes is not None  # the inputs are fake
    with fakes, torch.no_grad():
        whole = torch.func.functionalize(traced.graph)
        graph = make_fx(whole, decomposition_table=decompositions())(*traced.inputs)
    graph.graph.eliminate_dead_code()
    return graph


def _batch_sizes(program: Program, batch: Arrays) -> tuple[int, int, int]:
    """Choose numbers of examples that differ from each other and from 1."""
    leaves, _ = flatten(batch)
    sizes = {len(leaf) if leaf.ndim else 0 for leaf in leaves}
    if len(sizes) != 1 or 0 in sizes:
        shapes = [tuple(leaf.shape) for leaf in leaves]
        expected = "examples along the first axis of every tensor of the batch"
        raise unexpected(program.name, expected, shapes, "or say dynamic_batch=False")
    n = max(*sizes, 2)
    return n, n + 2, 2 * n + 3


def _resized(batch: Arrays, n: int) -> Arrays:
    """Make a batch of n examples: those given, again and again."""
    return tree.map(lambda leaf: leaf[torch.arange(n) % len(leaf)], batch, states=True)


def _axes(shape: Sequence[Size]) -> list[int | str | None]:
    """Describe a result's sizes; the number of examples has its name, and other sizes none."""
    named = {OfBatch(1, 0): BATCH}
    return [size if isinstance(size, int) else named.get(size) for size in shape]


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
