"""Compiled steps: forward, loss, backward, advance and update as one graph, by torch's Inductor."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias
from weakref import WeakKeyDictionary

import attrs
import torch
from torch import Tensor

from lincoln_fn.compiled import (
    attention,
    columns,
    lstm,
    lstm_of_codes,
    on_disk,
    pooled_convolution,
    pooling,
    products,
    scalars,
    sparse_convolution,
)
from lincoln_fn.compiled.donation import Added, Flat, Handover, handover, written_over
from lincoln_fn.compiled.inductor import by_inductor
from lincoln_fn.compiled.kernels import keep
from lincoln_fn.compiled.on_disk import Made
from lincoln_fn.compiled.structures import Structure, builder, flatten
from lincoln_fn.compiled.tracing import Traced, guarded, write_down
from lincoln_fn.data import Batch
from lincoln_fn.layers._bfloat16 import precision
from lincoln_fn.train import Step, TrainState


def compile(step: Step) -> Step:
    """Compile a training step: the same numbers, up to rounding, in less time.

    The first call for each structure, shape, stride, dtype and device of the arguments traces the
    step, whatever layers it is made of, and compiles the graph, which takes seconds and a C++
    compiler, or finds it on disk, where an earlier process has compiled it; the calls after it run
    that graph. A last batch that is smaller than the others is compiled for itself.

    Args:
        step: from `make_step`.

    Returns:
        The step. It raises what the step given raises. A loss that is not finite, which a label
        out of range also makes, is computed again by the step given, so that its error is the same.

    Raises:
        LayerError: from the step, if a part of it cannot be traced: if its Python code looks at a
            tensor's numbers.

    Example:
        >>> import lincoln_fn as lf
        >>> net, loss, optimizer = lf.dense(1), lf.losses.mse(), lf.optim.sgd(0.1)
        >>> compile(lf.make_step(net, loss, optimizer))
        make_step(dense(1), mse(), sgd(0.1))
    """
    if isinstance(step.run, CompiledRun):
        return step
    return attrs.evolve(step, run=CompiledRun(step))


# A batch's structure, None for two tensors; its tensors' layouts; and what torch is told that a
# graph depends on: the number of threads, and how precise products are to be.
BatchKind: TypeAlias = tuple[Structure | None, tuple[Hashable, ...], int, str]
# A state's structure, and its tensors' layouts.
StateKind: TypeAlias = tuple[Structure, tuple[Hashable, ...]]


@attrs.frozen(eq=False)
class Compiled:
    """A graph, and what hands a donated state's memory over to the next.

    `returned` is the structure of the state that it makes, and `build` puts such a state together.
    `after` remembers the graphs for these states in turn, by the kind of the batch.
    """

    graph: Flat
    returned: Structure
    build: Callable[[Sequence[Tensor]], TrainState]
    hand_over: Handover | None
    after: dict[BatchKind, Compiled] = attrs.field(factory=dict, init=False)


@attrs.frozen(eq=False)
class CompiledRun:
    """The bare step, compiled.

    It remembers a graph for each kind of arguments, and of each state that a graph has made, until
    it is used or gone, its tensors in a row. These are memos and no state: what they hold would be
    found anew, so no result depends on the calls before, only the time does.
    """

    step: Step
    graphs: dict[tuple[StateKind, BatchKind], Compiled] = attrs.field(factory=dict, init=False)
    made: WeakKeyDictionary[TrainState, tuple[Sequence[Tensor], Compiled]] = attrs.field(
        factory=WeakKeyDictionary, init=False
    )

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        """Take a step by the graph for such arguments, made now if there is none."""
        of_batch, structure = _in_a_row(batch)
        kind = structure, _layouts(of_batch), torch.get_num_threads(), precision()
        leaves, before = self.made.pop(state, ((), None))
        # A tensor that another step has written over has no memory left.
        if before is None or 0 in map(Tensor.data_ptr, leaves):
            leaves, of_state = flatten(state)
            compiled = self._graph((of_state, _layouts(leaves)), kind, state, batch)
        elif (known := before.after.get(kind)) is not None:
            compiled = known
        else:
            of_state = before.returned
            compiled = self._graph((of_state, _layouts(leaves)), kind, state, batch)
            before.after[kind] = compiled
        *outputs, value = compiled.graph([*leaves, *of_batch])
        # The graph cannot raise an error, but makes the value nan: the step itself says why.
        if not math.isfinite(value.item()):
            return self.step.pure(state, batch)
        products: Sequence[Added] = ()
        if compiled.hand_over is not None:
            outputs, products = compiled.hand_over(leaves, outputs)
        new_state = compiled.build(outputs)
        self.made[new_state] = outputs, compiled
        # Last, for what is read and written here drives all else out of the processor's caches.
        for leaf, a, b, alpha in products:
            leaf.addmm_(a, b, alpha=alpha)
        return new_state, value

    def _graph(
        self, of_state: StateKind, of_batch: BatchKind, state: TrainState, batch: Batch
    ) -> Compiled:
        compiled = self.graphs.get((of_state, of_batch))
        if compiled is None:
            compiled = self.graphs[of_state, of_batch] = _compiled(self.step, state, batch)
        return compiled


def _in_a_row(batch: Batch) -> tuple[list[Tensor], Structure | None]:
    """List a batch's tensors; of two, as most are, without asking for the structure."""
    x, target = batch
    if type(x) is Tensor and type(target) is Tensor:
        return [x, target], None
    return flatten(batch)


def _layouts(leaves: Sequence[Tensor]) -> tuple[Hashable, ...]:
    try:
        return tuple([(leaf.shape, leaf.stride(), leaf.dtype, leaf.device) for leaf in leaves])
    except AttributeError:  # a leaf that is no tensor, which tracing refuses
        return ()


def _compiled(step: Step, state: TrainState, batch: Batch) -> Compiled:
    traced = write_down(step, state, batch)
    leaves, _ = flatten(state)
    note = on_disk.note_on(traced, donate=step.donate)
    made = on_disk.find(note)
    if made is None:
        made = _made(step, traced, len(leaves))
        on_disk.keep(note, made)
    hand_over = None if made.fates is None else handover(made.fates, leaves)
    return Compiled(made.run, traced.structure, builder(traced.structure), hand_over)


def _made(step: Step, traced: Traced, count: int) -> Made:
    """Compile what a step was written down as; `count` is the number of the state's leaves."""
    traced = guarded(step, traced)
    small = products.is_small(traced.graph)
    fates = written_over(traced, count, small=small) if step.donate else None
    columns.rewrite(traced.graph, small=small)
    products.rewrite(traced.graph, small=small)
    pooling.rewrite(traced.graph)
    sparse_convolution.rewrite(traced.graph)
    pooled_convolution.rewrite(traced.graph)
    lstm.rewrite(traced.graph)
    lstm_of_codes.rewrite(traced.graph)
    attention.rewrite(traced.graph)
    products.rewrite_many(traced.graph)
    scalars.rewrite(traced.graph)
    keep(traced.graph)
    return Made(by_inductor(traced.graph, traced.inputs, small=small), fates)
