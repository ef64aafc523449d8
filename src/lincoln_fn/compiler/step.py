"""Compiled steps: forward, loss, backward, advance and update as one graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from typing import TypeAlias
from weakref import WeakKeyDictionary

import attrs
import torch
from torch import Tensor

from lincoln_fn.compiler.graphs import graph_of
from lincoln_fn.compiler.inductor.guards import Fits, fits_like
from lincoln_fn.compiler.passes.donation import Flat, Handover, make_handover
from lincoln_fn.compiler.trace.structures import Structure, flatten, layouts, make_builder
from lincoln_fn.compiler.trace.tracing import of_step
from lincoln_fn.core.autodiff import is_forward_mode, is_transformed, tensors_in
from lincoln_fn.fastpath.bfloat16 import precision
from lincoln_fn.runtime.log import log_if_slow
from lincoln_fn.training.data import Batch
from lincoln_fn.training.donation import copy_shared
from lincoln_fn.training.step import Step, total_of
from lincoln_fn.training.step_value import count_examples
from lincoln_fn.training.train import TrainState

# What a graph depends on beside its tensors: the structure of a batch, None for two tensors; the
# number of threads; and the precision of products.
Conditions: TypeAlias = tuple[Structure | None, int, str]


@attrs.frozen(eq=False)
class Compiled:
    """A graph, and what hands a donated state's memory over to the next."""

    # `build` puts the new state together. `after` remembers the graphs for these states in turn:
    # which batches and states fit, and what else each depends on.

    run: Flat
    build: Callable[[Sequence[Tensor]], TrainState]
    hand_over: Handover | None
    after: list[tuple[Fits, Conditions, Compiled]] = attrs.field(factory=list, init=False)


@attrs.frozen(eq=False)
class CompiledRun:
    """The bare step, compiled."""

    # It remembers a graph for each kind of arguments, and the flat tensors of each state that a
    # graph has made, until the state is used or freed. These are memos: a result does not depend on
    # the calls before, only the time does. A pickle leaves them out.

    step: Step
    graphs: dict[Hashable, Compiled] = attrs.field(factory=dict, init=False)
    made: WeakKeyDictionary[TrainState, tuple[list[Tensor], Compiled]] = attrs.field(
        factory=WeakKeyDictionary, init=False
    )

    def __reduce__(self) -> tuple[type[CompiledRun], tuple[Step]]:
        return CompiledRun, (self.step,)

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        """Take a step by the graph for such arguments, which is compiled if there is none."""
        of_batch, structure = _in_a_row(batch)
        conditions = structure, torch.get_num_threads(), precision()
        leaves, before = self.made.pop(state, ([], None))
        if self.step.donate and _share_memory(leaves):
            before = None
        graph = None
        # Tensors that autograd or torch.func sees do not fit, except for those with only a tangent.
        if before is not None and not is_forward_mode():
            for fits, of, after in before.after:
                if of == conditions and fits(*of_batch, *leaves):
                    graph = after
                    break
        if graph is None:
            leaves, of_state = flatten(state)
            if is_transformed(*tensors_in((leaves, of_batch))):
                return self.step.run(state, batch)
            if self.step.donate:
                leaves = copy_shared(leaves)
            kind = of_state, layouts(leaves), layouts(of_batch), conditions
            graph = self.graphs.get(kind)
            if graph is None:
                with log_if_slow(_again(batch)) if self.graphs else nullcontext():
                    graph = self.graphs[kind] = _compile(self.step, state, batch)
            if before is not None:
                before.after.append((fits_like([*of_batch, *leaves]), conditions, graph))
        *outputs, value = graph.run([*leaves, *of_batch])
        # The graph cannot raise an error, but makes the value nan. The step itself then raises it.
        if not math.isfinite(total_of(value).item()):
            return self.step.pure(state, batch)
        if graph.hand_over is not None:
            outputs = graph.hand_over(leaves, outputs)
        new_state = graph.build(outputs)
        self.made[new_state] = outputs, graph
        return new_state, value


def _again(batch: Batch) -> str:
    mend = "drop_last=True of data.batches leaves a smaller last batch out"
    return f"compiling again, for a batch of {count_examples(batch)} examples; {mend}"


def _share_memory(leaves: Sequence[Tensor]) -> bool:
    return len({*map(Tensor.data_ptr, leaves)}) < len(leaves)


def _in_a_row(batch: Batch) -> tuple[list[Tensor], Structure | None]:
    """List a batch's tensors; for two tensors, the usual case, without looking for a structure."""
    x, target = batch
    if type(x) is Tensor and type(target) is Tensor:
        return [x, target], None
    return flatten(batch)


def _compile(step: Step, state: TrainState, batch: Batch) -> Compiled:
    leaves, _ = flatten(state)
    made, structure = graph_of(
        of_step(step), state, batch, donated=len(leaves) if step.donate else 0
    )
    hand_over = None if made.fates is None else make_handover(made.fates, leaves)
    return Compiled(made.run, make_builder(structure), hand_over)
