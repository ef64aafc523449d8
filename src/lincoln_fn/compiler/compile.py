"""`compile`: a step, a layer's prediction or a pure function as one graph, by torch's Inductor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, overload

import attrs

from lincoln_fn.compiler.function import CompiledFunction, compile_function, is_pure, of_prediction
from lincoln_fn.compiler.step import CompiledRun
from lincoln_fn.core import Layer, LayerError, describe, suggest
from lincoln_fn.decoding import Decoder
from lincoln_fn.training import Step

# Any: trees of tensors, of whatever kinds the function takes and returns.
Function = TypeVar("Function", bound=Callable[..., Any])


@overload
def compile(whole: Step) -> Step: ...
@overload
def compile(whole: Layer) -> Layer: ...
@overload
def compile(whole: Decoder) -> Decoder: ...
@overload
def compile(whole: Function) -> Function: ...
def compile(whole: Any) -> Any:  # Any: as the overloads say
    """Compile a step, a layer's prediction or a pure function: the same numbers in less time.

    The numbers are the same up to rounding.

    The first call for each structure, shape, stride, dtype and device of the arguments traces and
    compiles the whole as one graph. That takes seconds and a C++ compiler. Later calls run the
    graph, and later processes load it from disk. A last batch that is smaller than the others has
    a graph of its own, and is compiled too: `drop_last=True` of `data.batches` leaves it out.
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
        The step, the layer, the decoder or the function. It raises what the one given raises. A
        loss that is not finite, which a label out of range also makes, is computed again by the
        step given, so that its error is the same. A function's own loss is returned as it is.

    Raises:
        LayerError: for what is none of these, or a step with `reduce`; from the step, `predict` or
            the function, if a part of it cannot be traced: if its Python code looks at a tensor's
            numbers.

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
        if whole.reduce is not None:
            problem = "expected a step of one process, got one with reduce"
            mend = "write lf.distributed.mean(group, compiled=True)"
            raise LayerError("compile", f"{problem}; {mend}")
        is_made = isinstance(whole.run, CompiledRun)
        return whole if is_made else attrs.evolve(whole, run=CompiledRun(whole))
    if isinstance(whole, Decoder):
        is_made = whole.wrap is compile_function
        return whole if is_made else attrs.evolve(whole, wrap=compile_function)
    if not isinstance(whole, Layer):
        if not is_pure(whole):
            kinds = "a step, a layer, a decoder or a function of (state, batch)"
            mend = suggest(whole, "Layer")
            problem = f"expected whole to be {kinds}, got {describe(whole)}"
            raise LayerError("compile", f"{problem}; {mend}" if mend else problem)
        return whole if isinstance(whole, CompiledFunction) else compile_function(whole)
    if isinstance(whole.predict, CompiledFunction):
        return whole
    predict = CompiledFunction(partial(of_prediction, whole))
    return whole.replace(predict=predict, composition=whole.composition)
