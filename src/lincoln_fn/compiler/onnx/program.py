"""A program as an ONNX model: traced at some batch sizes, converted, named and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs
import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from lincoln_fn.compiler.onnx.convert import convert
from lincoln_fn.compiler.onnx.decompositions import decompositions
from lincoln_fn.compiler.onnx.writer import OfBatch, Size, UnknownOperationError, Value, Writer
from lincoln_fn.compiler.tracing import Program, write_down
from lincoln_fn.core import Arrays, LayerError, tree, unexpected
from lincoln_fn.recording import flatten

if TYPE_CHECKING:  # an extra
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

# The operations are those of this version of ONNX's set, from 2022; 8 came with it.
OPSET: Final = 18
IR_VERSION: Final = 8
# The name of the axis of examples.
BATCH: Final = "batch_size"


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
    nodes = _needed([*write.nodes.values(), *_ends(write, named)], names.outputs)
    read = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in write.constants.values() if tensor.name in read]
    return _checked(helper.make_graph(nodes, "program", given, results, [*defaults, *constants]))


def _ends(write: Writer, named: Sequence[tuple[str, Value]]) -> list[NodeProto]:
    """Give results their names: in the node that makes each, or by a node of its own."""
    from onnx import helper

    made = {name for node in write.nodes.values() for name in node.output}
    changed: dict[str, str] = {}
    ends = []
    for name, value in named:
        if value.name in made and value.name not in changed:
            changed[value.name] = name
        else:  # an input, a constant, or another result, too
            ends.append(helper.make_node("Identity", [value.name], [name]))
    for node in (*write.nodes.values(), *ends):
        node.input[:] = [changed.get(name, name) for name in node.input]
        node.output[:] = [changed.get(name, name) for name in node.output]
    return ends


def _needed(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> list[NodeProto]:
    """Leave out nodes whose results nothing reads."""
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
