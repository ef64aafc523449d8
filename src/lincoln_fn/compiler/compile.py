"""`compile`: a step, a layer's prediction or a pure function as one graph, by torch's Inductor."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial, update_wrapper
from typing import TypeGuard, TypeVar, overload

import attrs
import torch
from torch import Tensor, nn

from lincoln_fn import core
from lincoln_fn.compiler.graphs import graph_of
from lincoln_fn.compiler.passes.donation import Flat, Handover, make_handover
from lincoln_fn.compiler.tracing import Program, check_tensors, of_step
from lincoln_fn.core import Arrays, Layer, is_constructor, is_function, unexpected
from lincoln_fn.decoding import Decoder
from lincoln_fn.fastpath import fast
from lincoln_fn.recording import ByKind, Pure, address, flatten, make_builder
from lincoln_fn.runtime import adapt_waiting, log_if_slow, losses_of
from lincoln_fn.training import Batch, Step, TrainState, copy_shared, count_examples, total_of

Function = TypeVar("Function", bound=Callable[..., Arrays])


@overload
def compile(whole: Step) -> Step: ...
@overload
def compile(whole: Layer) -> Layer: ...
@overload
def compile(whole: Decoder) -> Decoder: ...
@overload
def compile(whole: Function) -> Function: ...
def compile(whole: object) -> object:
    """Compile a step, a layer's prediction or a pure function: the same numbers in less time.

    The numbers are the same up to rounding. The first call for each structure, shape, stride, dtype
    and device of the arguments traces and compiles the whole as one graph. That takes seconds and a
    C++ compiler. Later calls run the graph, and later processes load it from disk. A smaller last
    batch is compiled too: `drop_last=True` of `data.batches` leaves it out.
    `logging.getLogger("lincoln_fn")` logs a wait of more than two seconds.

    Args:
        whole: a step from `make_step`; or a layer, of which `predict` is compiled, for `evaluate`
            and after training; or a decoder, for `generate`; or any pure function of two trees of
            tensors or more, such as a step of your own, (state, batch) -> (state, value). What such
            a function reads beside its arguments stays in the graph as it was at the first call.

    Warns:
        UserWarning: if compiling fails, for instance without a C++ compiler. The graph then runs
            without being compiled.

    Returns:
        The step, the layer, the decoder or the function. It raises what the one given raises: a
        step whose loss is not finite is taken again by the step given.

    Raises:
        LayerError: for what is none of these, or a step with `reduce`; from what is returned, if a
            part of it cannot be traced: if its Python code looks at a tensor's numbers.

    Example:
        >>> net, loss, optimizer = lf.dense(1), lf.losses.mse(), lf.optim.sgd(0.1)
        >>> compile(lf.make_step(net, loss, optimizer)), compile(net)
        (make_step(dense(1), mse(), sgd(0.1)), dense(1))
        >>> def step(state, batch):
        ...     return state - 0.1 * batch, (state**2).sum()
        >>> compile(step)
        compile(step)
    """
    if isinstance(whole, Step):
        if whole.reduce is not None:
            mend = "write lf.distributed.mean(group, compiled=True)"
            raise unexpected("compile", "a step of one process", "one with reduce", mend)
        is_made = isinstance(whole.run, CompiledRun)
        return whole if is_made else attrs.evolve(whole, run=CompiledRun(whole))
    if isinstance(whole, Decoder):
        is_made = whole.wrap is compile_function
        return whole if is_made else attrs.evolve(whole, wrap=compile_function)
    if not isinstance(whole, Layer):
        if not _is_pure(whole):
            mend = core.suggest(whole, "Layer")
            expected = "whole to be a step, a layer, a decoder or a function of (state, batch)"
            raise unexpected("compile", expected, core.describe(whole), mend)
        return whole if isinstance(whole, CompiledFunction) else compile_function(whole)
    if isinstance(whole.predict, CompiledFunction):
        return whole
    predict = CompiledFunction(partial(of_prediction, whole))
    return whole.replace(predict=predict, composition=whole.composition)


@attrs.frozen(eq=False)
class Compiled:
    """A graph for one kind of arguments, and what hands a donated state's memory to the next."""

    run: Flat
    build: Callable[[Sequence[Tensor]], Arrays]
    hand_over: Handover | None
    count: int  # of the first argument's tensors
    shares: bool  # whether some of them share memory


class CompiledFunction:
    """A program's function, compiled, and its graphs, which a pickle leaves out."""

    def __init__(self, make: Callable[[], Program], *, donate: bool = False) -> None:
        self.make, self.program, self.donate = make, make(), donate
        self.graphs: ByKind[Compiled] = ByKind(self._compile, address if donate else None)
        update_wrapper(self, self.program.plain, updated=())

    def __repr__(self) -> str:
        return f"compile({self.program.name})"

    def __reduce__(self) -> tuple[type[CompiledFunction], tuple[object, ...]]:
        return CompiledFunction, (self.make,)

    def __call__(self, *arguments: Arrays) -> Arrays:
        """Run the graph for such arguments, which is compiled if there is none."""
        adapt_waiting()
        made = self._run(arguments)
        return self.program.plain(*arguments) if made is None else made[0]

    def _run(self, arguments: tuple[Arrays, ...]) -> tuple[Arrays, Tensor] | None:
        """Run the graph; None if the function itself has to say what is wrong, or is looked at."""
        match = self.graphs.find(*arguments)
        if match is None:
            leaves, _ = flatten(arguments)
            if not all(isinstance(leaf, Tensor) for leaf in leaves):
                self.program.plain(*arguments)  # its own error is the better one
            check_tensors(self.program.where, "", leaves, arguments)
            return None
        tensors, graph = match
        leaves = tensors[: graph.count]
        if graph.shares:
            leaves = copy_shared(leaves)
        *outputs, value = graph.run([*leaves, *tensors[graph.count :]])
        # The graph cannot raise an error, but makes the value nan. The function then raises it.
        if not math.isfinite(total_of(value).item()):
            return None
        if graph.hand_over is not None:
            outputs = graph.hand_over(leaves, outputs)
        result = graph.build(outputs)
        if core.is_record(type(result)):
            self.graphs.keep(result, outputs, graph)
        return result, value

    def _compile(self, count: int, shares: bool, *arguments: Arrays) -> Compiled:
        donated = count if self.donate else 0
        graph, structure = graph_of(self.program, *arguments, donated=donated)
        leaves, _ = flatten(arguments[0])
        hand_over = None if graph.fates is None else make_handover(graph.fates, leaves)
        return Compiled(graph.run, make_builder(structure), hand_over, count, shares)


class CompiledRun(CompiledFunction):
    """The bare step, compiled: forward, loss, backward, advance and update as one graph."""

    def __init__(self, step: Step) -> None:
        super().__init__(partial(of_step, step), donate=step.donate)
        self.step = step

    def __reduce__(self) -> tuple[type[CompiledRun], tuple[Step]]:
        return CompiledRun, (self.step,)

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        """Take a step by the graph for such arguments, which is compiled if there is none."""
        return self._run((state, batch)) or self.step.run(state, batch)

    def _compile(self, count: int, shares: bool, *arguments: Arrays) -> Compiled:
        mend = "drop_last=True of data.batches leaves a smaller last batch out"
        examples = count_examples(arguments[1])
        again = f"compiling again, for a batch of {examples} examples; {mend}"
        with log_if_slow(again) if self.graphs.kinds else nullcontext():
            return super()._compile(count, shares, *arguments)


def compile_function(function: Pure) -> CompiledFunction:
    """Compile a pure function."""
    return CompiledFunction(partial(of_function, function))


def _is_pure(whole: object) -> TypeGuard[Pure]:
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
