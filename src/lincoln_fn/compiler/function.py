"""Compiled functions: any pure function of two trees, such as a step of one's own, as one graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lincoln_fn._mends import is_constructor
from lincoln_fn.compiler.graphs import Graphs, computed, graph_of
from lincoln_fn.compiler.trace.structures import flatten
from lincoln_fn.compiler.trace.tracing import Program
from lincoln_fn.layer import Arrays

Pure: TypeAlias = Callable[[Any, Any], Any]  # Any: trees of tensors


def is_pure(whole: object) -> bool:
    """Tell whether an object can be compiled as a function of two arguments.

    Example:
        >>> is_pure(lambda state, batch: (state, batch)), is_pure(lf.relu), is_pure(torch.relu)
        (True, False, False)
    """
    if not callable(whole) or isinstance(whole, type | nn.Module) or is_constructor(whole):
        return False
    try:
        inspect.signature(whole).bind(None, None)
    except (TypeError, ValueError):  # of another number of arguments, or of none that are known
        return False
    return True


class CompiledFunction:
    """A pure function, compiled, and its graphs, which a pickle leaves out."""

    def __init__(self, function: Pure) -> None:
        self.function = function
        self.graphs: Graphs = {}
        update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"compile({_name(self.function)})"

    def __reduce__(self) -> tuple[type[CompiledFunction], tuple[Pure]]:
        return CompiledFunction, (self.function,)

    def __call__(self, state: Arrays, batch: Arrays) -> Arrays:
        """Run the graph for such arguments, made now if there is none."""
        return computed(
            self.graphs,
            *flatten((state, batch)),
            lambda: graph_of(_program(self.function), state, batch),
            lambda: self.function(state, batch),
        )


def _program(function: Pure) -> Program:
    def pure(state: Arrays, batch: Arrays) -> tuple[Arrays, Tensor]:
        leaves, _ = flatten((state, batch))
        # The number is 0, or nan if an index is out of range.
        return function(state, batch), torch.zeros((), device=leaves[0].device if leaves else None)

    return Program(_name(function), "function", "its result", pure, function)


def _name(function: Pure) -> str:
    name: str = getattr(function, "__qualname__", repr(function))
    return name.rpartition("<locals>.")[2]
