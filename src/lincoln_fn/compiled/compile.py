"""Compiled steps: forward, loss, backward, advance and update as one graph, by torch's Inductor.

`compile` compiles predictions too, which prediction.py runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, overload
from weakref import WeakKeyDictionary

import attrs
import torch
from torch import Tensor

from lincoln_fn._mends import mend_of, shown
from lincoln_fn.compiled.donation import Added, Flat, Handover, handover
from lincoln_fn.compiled.function import CompiledFunction, is_pure
from lincoln_fn.compiled.graphs import graph_of
from lincoln_fn.compiled.prediction import CompiledPrediction
from lincoln_fn.compiled.structures import Layouts, Structure, builder, flatten, layouts
from lincoln_fn.compiled.tracing import of_step
from lincoln_fn.data import Batch
from lincoln_fn.fastpath.bfloat16 import precision
from lincoln_fn.layer import Layer
from lincoln_fn.shapes import LayerError
from lincoln_fn.step import Step, total_of
from lincoln_fn.train import TrainState

# Any: trees of tensors, of whatever kinds the function takes and returns.
Function = TypeVar("Function", bound=Callable[[Any, Any], Any])


@overload
def compile(whole: Step) -> Step: ...
@overload
def compile(whole: Layer) -> Layer: ...
@overload
def compile(whole: Function) -> Function: ...
def compile(whole: Any) -> Any:  # Any: as the overloads say
    """Compile a step, a layer's prediction or a pure function: the same numbers, sooner.

    The numbers are the same up to rounding.

    The first call for each structure, shape, stride, dtype and device of the arguments traces the
    whole, whatever layers it is made of, and compiles the graph, which takes seconds and a C++
    compiler, or finds it on disk, where an earlier process has compiled it; the calls after it run
    that graph. A last batch that is smaller than the others is compiled for itself.
    A wait of more than two seconds says what it is for: `logging.getLogger("lincoln_fn")` logs it.

    Args:
        whole: a step from `make_step`; or a layer, of which `predict` is compiled, for `evaluate`
            and after training; or any pure function of two trees of tensors, such as a step of your
            own, (state, batch) -> (state, value). What such a function reads beside its arguments
            stays in the graph as it was at the first call.

    Returns:
        The step, the layer or the function. It raises what the one given raises. A loss that is not
        finite, which a label out of range also makes, is computed again by the step given, so that
        its error is the same. A function's own loss is returned as it is.

    Raises:
        LayerError: for what is none of these; from the step, `predict` or the function, if a part
            of it cannot be traced: if its Python code looks at a tensor's numbers.

    Example:
        >>> import lincoln_fn as lf
        >>> net, loss, optimizer = lf.dense(1), lf.losses.mse(), lf.optim.sgd(0.1)
        >>> compile(lf.make_step(net, loss, optimizer)), compile(net)
        (make_step(dense(1), mse(), sgd(0.1)), dense(1))
        >>> def step(state, batch):
        ...     return state - 0.1 * batch, (state**2).sum()
        >>> compile(step)
        compile(step)
    """
    if isinstance(whole, Step):
        is_made = isinstance(whole.run, CompiledRun)
        return whole if is_made else attrs.evolve(whole, run=CompiledRun(whole))
    if not isinstance(whole, Layer):
        if not is_pure(whole):
            kinds = "a step, a layer or a function of (state, batch)"
            mend = mend_of(whole, "Layer")
            problem = f"expected whole to be {kinds}, got {shown(whole)}"
            raise LayerError("compile", f"{problem}; {mend}" if mend else problem)
        is_made = isinstance(whole, CompiledFunction)
        return whole if is_made else CompiledFunction(whole)
    is_made = isinstance(whole.predict, CompiledPrediction)
    predict = CompiledPrediction(whole)
    return whole if is_made else whole.replace(predict=predict, composition=whole.composition)


# A batch's structure, None for two tensors; its tensors' layouts; and what torch is told that a
# graph depends on: the number of threads, and how precise products are to be.
BatchKind: TypeAlias = tuple[Structure | None, Layouts, int, str]
# A state's structure, and its tensors' layouts.
StateKind: TypeAlias = tuple[Structure, Layouts]


@attrs.frozen(eq=False)
class Compiled:
    """A graph, and what hands a donated state's memory over to the next.

    `returned` is the structure of the state that it makes, and `build` puts such a state together.
    `after` remembers the graphs for these states in turn, by the kind of the batch.
    """

    run: Flat
    returned: Structure
    build: Callable[[Sequence[Tensor]], TrainState]
    hand_over: Handover | None
    after: dict[BatchKind, Compiled] = attrs.field(factory=dict, init=False)


@attrs.frozen(eq=False)
class CompiledRun:
    """The bare step, compiled.

    It remembers a graph for each kind of arguments, and of each state that a graph has made, until
    it is used or gone, its tensors in a row. These are memos and no state: what they hold would be
    found anew, so no result depends on the calls before, only the time does. A pickle leaves them
    out.
    """

    step: Step
    graphs: dict[tuple[StateKind, BatchKind], Compiled] = attrs.field(factory=dict, init=False)
    made: WeakKeyDictionary[TrainState, tuple[Sequence[Tensor], Compiled]] = attrs.field(
        factory=WeakKeyDictionary, init=False
    )

    def __reduce__(self) -> tuple[type[CompiledRun], tuple[Step]]:
        return CompiledRun, (self.step,)

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        """Take a step by the graph for such arguments, made now if there is none."""
        of_batch, structure = _in_a_row(batch)
        kind = structure, layouts(of_batch), torch.get_num_threads(), precision()
        leaves, before = self.made.pop(state, ((), None))
        # A tensor that another step has written over has no memory left.
        if before is None or 0 in map(Tensor.data_ptr, leaves):
            leaves, of_state = flatten(state)
            graph = self._graph((of_state, layouts(leaves)), kind, state, batch)
        elif (known := before.after.get(kind)) is not None:
            graph = known
        else:
            of_state = before.returned
            graph = self._graph((of_state, layouts(leaves)), kind, state, batch)
            before.after[kind] = graph
        *outputs, value = graph.run([*leaves, *of_batch])
        # The graph cannot raise an error, but makes the value nan: the step itself says why.
        if not math.isfinite(total_of(value).item()):
            return self.step.pure(state, batch)
        products: Sequence[Added] = ()
        if graph.hand_over is not None:
            outputs, products = graph.hand_over(leaves, outputs)
        new_state = graph.build(outputs)
        self.made[new_state] = outputs, graph
        # Last, for what is read and written here drives all else out of the processor's caches.
        for leaf, a, b, alpha in products:
            leaf.addmm_(a, b, alpha=alpha)
        return new_state, value

    def _graph(
        self, of_state: StateKind, of_batch: BatchKind, state: TrainState, batch: Batch
    ) -> Compiled:
        known = self.graphs.get((of_state, of_batch))
        if known is None:
            known = self.graphs[of_state, of_batch] = _compiled(self.step, state, batch)
        return known


def _in_a_row(batch: Batch) -> tuple[list[Tensor], Structure | None]:
    """List a batch's tensors; of two, as most are, without asking for the structure."""
    x, target = batch
    if type(x) is Tensor and type(target) is Tensor:
        return [x, target], None
    return flatten(batch)


def _compiled(step: Step, state: TrainState, batch: Batch) -> Compiled:
    leaves, _ = flatten(state)
    made, structure = graph_of(
        of_step(step), state, batch, donated=len(leaves) if step.donate else 0
    )
    hand_over = None if made.fates is None else handover(made.fates, leaves)
    return Compiled(made.run, structure, builder(structure), hand_over)
