"""Tracing: a step, or a prediction, as one flat graph of tensor operations.

    flat(*leaves of (state, (x, target))) -> leaves of (new state, value)

`make_fx` runs it on fake tensors, which have a shape and a dtype but no numbers, and records each
operation. What Python computes of numbers and shapes becomes a constant of the graph. So all that
changes from step to step is a tensor leaf; shapes are checked while tracing, but numbers are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import optree
import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch._subclasses import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from lincoln_fn.compiler.decompositions import ForInductor
from lincoln_fn.compiler.inductor.settings import IS_KNOWN
from lincoln_fn.core import Arrays, LayerError, format_briefly, same_strides, tree, unexpected
from lincoln_fn.losses.internal import check_one_number
from lincoln_fn.recording import Structure, flatten
from lincoln_fn.runtime import RunsHere
from lincoln_fn.training import Batch, Step, TrainState


@attrs.frozen(eq=False)
class Program:
    """What is traced: `pure` is a function of trees, to another tree and one number."""

    name: str  # of the whole, for errors
    where: str  # what does the work, for errors
    result: str  # the tree, for errors
    pure: Callable[..., tuple[Arrays, Tensor]]
    # the function that users call: it says what is wrong with its arguments
    plain: Callable[..., Arrays]


def of_step(step: Step) -> Program:
    """Describe how a step is traced."""

    def pure(state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        new_state, value = step.pure(state, batch)
        if not step.parts:
            check_one_number(step.loss.name, value)
        return new_state, value

    plain = attrs.evolve(step, donate=False, run=step.pure)
    return Program(str(step), "step", "the new state", pure, plain)


@attrs.frozen(eq=False)
class Traced:
    """A program's graph, fake tensors like its inputs, and the structure of its result."""

    graph: GraphModule
    inputs: tuple[Tensor, ...]
    structure: Structure


def write_down(program: Program, *arguments: Arrays, here: bool = True) -> Traced:
    """Trace a program as it is: in-place operations stay, and no index is checked."""
    leaves, structure = flatten(arguments)
    returned: list[Structure] = []

    def run_flat(*inputs: Tensor) -> list[Tensor]:
        result, value = program.pure(*optree.tree_unflatten(structure, inputs))
        outputs, of_result = flatten(result)
        returned.append(of_result)
        check_tensors(program.where, f"{program.result} to be ", outputs, result)
        return [*outputs, value]

    try:
        check_tensors(program.where, "", leaves, arguments)
        with _fakes(here=here), torch.no_grad():
            # A fake for each place: a tensor that occurs twice here need not do so in later calls.
            inputs = tuple(map(same_strides, leaves))
            graph = make_fx(run_flat)(*inputs)
    except Exception as error:
        # If the arguments are wrong, the program's own error is the better one.
        program.plain(*arguments)
        raise _untraceable(program, error) from error
    for module in graphs_in(graph):
        _drop_unused_reads(module)
    return Traced(graph, inputs, returned[0])


def graphs_in(graph: GraphModule) -> list[GraphModule]:
    """List a graph and the bodies of its loops."""
    return [module for module in graph.modules() if isinstance(module, GraphModule)]


def guard(program: Program, traced: Traced) -> Traced:
    """Keep every index in range, and trace again without in-place operations."""
    # In the graph, an index out of range is moved to the nearest in range, and makes the value nan:
    # compiled code would read beyond the tensor, or end the process.
    fakes = detect_fake_mode(traced.inputs)
    assert fakes is not None  # the inputs are fake

    def run(*inputs: Tensor) -> list[Tensor]:
        with ForInductor() as indices:
            # Without in-place operations, so that an index is kept in range where it is used. The
            # graph is run, and not the step: under `functionalize` numpy would read unset memory.
            *outputs, value = torch.func.functionalize(traced.graph)(*inputs)
        for wrong in indices.wrong:
            value = torch.where(wrong, torch.nan, value)
        return [*outputs, value]

    try:
        with fakes, torch.no_grad():
            return attrs.evolve(traced, graph=make_fx(run)(*traced.inputs))
    except Exception as error:
        raise _untraceable(program, error) from error


def check_tensors(where: str, subject: str, leaves: Sequence[object], arguments: Arrays) -> None:
    """Check that leaves, of a subject such as "its result to be ", are dense tensors."""
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
            continue
        path = tree.paths(arguments, states=True)[i]
        if not isinstance(leaf, Tensor):
            mend = "a number that changes from step to step has to be a tensor"
            got = f"{format_briefly(leaf)} at {path}"
            raise unexpected(where, f"{subject}tensors alone", got, mend)
        mend = f"use {path}.to_dense()"
        raise unexpected(where, f"{subject}dense tensors", f"a sparse one at {path}", mend)


def _fakes(*, here: bool) -> FakeTensorMode:
    if not here:
        return FakeTensorMode(allow_non_fake_inputs=True)
    # Imported here, because it takes as long as the rest of the library.
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    # Without it, Inductor keeps no compiled graph on disk. No shape depends on a tensor's numbers.
    shapes = ShapeEnv(allow_scalar_outputs=False, allow_dynamic_output_shape_ops=False)
    mode = RunsHere(allow_non_fake_inputs=True, shape_env=shapes)
    mode.has_loops = IS_KNOWN
    return mode


def _untraceable(program: Program, error: Exception) -> LayerError:
    where, problem = program.name, f"{type(error).__name__}: {error}"
    if isinstance(error, LayerError):
        where, problem = error.where, error.problem
    mend = (
        "write it in tensor operations, torch.where in place of if, without numpy, item() or "
        f"tolist(); or use the {program.where} as it is"
    )
    return LayerError(where, f"cannot be traced ({problem.splitlines()[0]}); {mend}")


def _drop_unused_reads(graph: GraphModule) -> None:
    """Remove unused item() reads: the step has caught the error that each raised."""
    for node in reversed(graph.graph.nodes):
        if node.target is torch.ops.aten._local_scalar_dense.default and not node.users:
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
