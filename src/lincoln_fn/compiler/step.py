"""Compiled steps: forward, loss, backward, advance and update as one graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import attrs
from torch import Tensor

from lincoln_fn.compiler.graphs import graph_of
from lincoln_fn.compiler.passes.donation import Flat, Handover, make_handover
from lincoln_fn.compiler.trace.tracing import check_tensors, of_step
from lincoln_fn.recording import StepsByKind, address, flatten, make_builder
from lincoln_fn.runtime import log_if_slow
from lincoln_fn.training import Batch, Step, TrainState, copy_shared, count_examples, total_of


@attrs.frozen(eq=False)
class Compiled:
    """A graph for states of some tensors, and what hands a donated one's memory to the next."""

    run: Flat
    build: Callable[[Sequence[Tensor]], TrainState]
    hand_over: Handover | None
    count: int
    shares: bool  # whether some of them share memory


class CompiledRun:
    """The bare step, compiled; a pickle leaves the graphs out."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.graphs: StepsByKind[TrainState, Batch, Compiled] = StepsByKind(
            self._compile, address if step.donate else None
        )

    def __reduce__(self) -> tuple[type[CompiledRun], tuple[Step]]:
        return CompiledRun, (self.step,)

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        """Take a step by the graph for such arguments, which is compiled if there is none."""
        match = self.graphs.find(state, batch)
        if match is None:
            check_tensors("step", "expected", flatten((state, batch))[0], (state, batch))
            return self.step.run(state, batch)
        tensors, graph = match
        leaves = tensors[: graph.count]
        if graph.shares:
            leaves = copy_shared(leaves)
        *outputs, value = graph.run([*leaves, *tensors[graph.count :]])
        # The graph cannot raise an error, but makes the value nan. The step itself then raises it.
        if not math.isfinite(total_of(value).item()):
            return self.step.pure(state, batch)
        if graph.hand_over is not None:
            outputs = graph.hand_over(leaves, outputs)
        new_state = graph.build(outputs)
        self.graphs.keep(new_state, outputs, graph)
        return new_state, value

    def _compile(self, state: TrainState, batch: Batch, count: int, shares: bool) -> Compiled:
        mend = "drop_last=True of data.batches leaves a smaller last batch out"
        again = f"compiling again, for a batch of {count_examples(batch)} examples; {mend}"
        with log_if_slow(again) if self.graphs.kinds else nullcontext():
            donated = count if self.step.donate else 0
            graph, structure = graph_of(of_step(self.step), state, batch, donated=donated)
        leaves, _ = flatten(state)
        hand_over = None if graph.fates is None else make_handover(graph.fates, leaves)
        return Compiled(graph.run, make_builder(structure), hand_over, count, shares)
