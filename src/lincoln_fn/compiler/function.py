"""Compiled functions: any pure function of trees, such as a user's own step, as one graph."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
from typing import TypeAlias

import attrs
import torch
from torch import Tensor, nn

from lincoln_fn.compiler.graphs import graph_of
from lincoln_fn.compiler.passes.donation import Flat
from lincoln_fn.compiler.trace.tracing import Program
from lincoln_fn.core import Arrays, Layer, is_constructor, is_function, is_plain, losses_of
from lincoln_fn.fastpath import fast
from lincoln_fn.recording import Layouts, Pure, Structure, flatten, layouts, make_builder
from lincoln_fn.runtime import adapt_waiting, precision

# The structure of all arguments, their tensors' layouts, the number of threads, and the precision
# of products.
Kind: TypeAlias = tuple[Structure, Layouts, int, str]
Builder: TypeAlias = Callable[[Sequence[Tensor]], Arrays]


class CompiledFunction:
    """A program's function, compiled, and its graphs, which a pickle leaves out."""

    def __init__(self, make: Callable[[], Program]) -> None:
        self.make, self.program = make, make()
        # By the kind of the arguments: a graph, and the function that makes a tree of its outputs.
        # A memo: no result depends on it.
        self.graphs: dict[Kind, tuple[Flat, Builder]] = {}
        update_wrapper(self, self.program.plain, updated=())

    def __repr__(self) -> str:
        return f"compile({self.program.name})"

    def __reduce__(self) -> tuple[type[CompiledFunction], tuple[Callable[[], Program]]]:
        return CompiledFunction, (self.make,)

    def __call__(self, *arguments: Arrays) -> Arrays:
        """Run the graph for such arguments, which is compiled if there is none."""
        # Arguments without numbers, and those that autograd, torch.func or a tracer sees, go to the
        # function itself.
        leaves, structure = flatten(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if any(leaf.is_meta for leaf in tensors) or not is_plain(*tensors):
            return self.program.plain(*arguments)
        kind = structure, layouts(leaves), torch.get_num_threads(), precision()
        if kind not in self.graphs:
            graph, of_result = graph_of(self.program, *arguments)
            self.graphs[kind] = graph.run, make_builder(of_result)
        adapt_waiting()
        run, build = self.graphs[kind]
        with torch.no_grad():
            *outputs, flag = run(leaves)
        return build(outputs) if math.isfinite(flag.item()) else self.program.plain(*arguments)


def compile_function(function: Pure) -> CompiledFunction:
    """Compile a pure function."""
    return CompiledFunction(partial(of_function, function))


def is_pure(whole: object) -> bool:
    """Return whether an object can be compiled as a function of two arguments or more."""
    if not is_function(whole) or isinstance(whole, type | nn.Module) or is_constructor(whole):
        return False
    try:
        parameters = inspect.signature(whole).parameters.values()
    except (TypeError, ValueError):  # its signature is not known
        return False
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    by_name = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    is_open = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return not by_name and (is_open or len(by_position) > 1)


def of_function(function: Pure) -> Program:
    """Describe how a function is traced."""

    def pure(*arguments: Arrays) -> tuple[Arrays, Tensor]:
        leaves, _ = flatten(arguments)
        result = function(*arguments)
        # The number is 0, or nan if an index is out of range or a step's loss is not finite.
        flag = torch.zeros((), device=leaves[0].device if leaves else None)
        for value in losses_of(leaves[0]) if leaves else []:
            flag = flag + 0 * value
        return result, flag

    name: str = getattr(function, "__qualname__", repr(function))
    return Program(name.rpartition("<locals>.")[2], "function", "its result", pure, function)


def of_prediction(layer: Layer) -> Program:
    """Describe a prediction: the faster layer is traced, and errors are those of the layer."""
    return attrs.evolve(
        of_function(fast(layer).predict),
        name=str(layer),
        where="layer",
        result="the prediction",
        plain=layer.predict,
    )
