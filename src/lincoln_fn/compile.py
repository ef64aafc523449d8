"""Compiled steps: forward, loss, backward, advance and update as one graph, by torch's Inductor."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence

import attrs
import torch
from torch import Tensor

from lincoln_fn._kept import keep
from lincoln_fn.data import Batch
from lincoln_fn.donation import overwriting, written_over
from lincoln_fn.tracing import Structure, flatten, trace
from lincoln_fn.train import Step, TrainState

# What Inductor makes of a graph, and the structure of what it returns.
Compiled = tuple[Callable[..., Sequence[Tensor]], Structure]


def compile(step: Step) -> Step:
    """Compile a training step: the same numbers, up to rounding, in less time.

    The first call for each structure, shape, stride, dtype and device of the arguments traces the
    step, whatever layers it is made of, and compiles the graph, which takes seconds and a C++
    compiler; the calls after it run that graph. A last batch that is smaller than the others is
    compiled for itself.

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


@attrs.frozen(eq=False)
class CompiledRun:
    """The bare step, compiled.

    `graphs` remembers a graph for each kind of arguments. It is a memo and no state: a graph is a
    function of its key, so no result depends on which calls came before, only the time does.
    """

    step: Step
    graphs: dict[Hashable, Compiled] = attrs.field(factory=dict, init=False)

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        """Take a step by the graph for such arguments, made now if there is none."""
        leaves, structure = flatten((state, batch))
        try:
            kinds = [(leaf.shape, leaf.stride(), leaf.dtype, leaf.device) for leaf in leaves]
        except AttributeError:  # a leaf that is no tensor, which tracing refuses
            kinds = []
        # A graph is compiled for a number of threads.
        key = (structure, torch.get_num_threads(), *kinds)
        compiled = self.graphs.get(key)
        if compiled is None:
            compiled = self.graphs[key] = _compiled(self.step, state, batch)
        graph, returned = compiled
        outputs = graph(*leaves)
        # The graph cannot raise an error, but makes the value nan: the step itself says why.
        if not math.isfinite(outputs[-1].item()):
            return self.step.pure(state, batch)
        result: tuple[TrainState, Tensor] = returned.unflatten(outputs)
        return result


def _compiled(step: Step, state: TrainState, batch: Batch) -> Compiled:
    traced = trace(step, state, batch)
    graph, fates = traced.graph, None
    keep(graph)
    if step.donate:
        graph, fates = written_over(traced, len(flatten(state)[0]))
    options = {
        # The key has compared sizes and strides.
        "size_asserts": False,
        "alignment_asserts": False,
        # Its sums of indices do not wrap around at 64 bits, as the draws from a key rely on: with
        # it, the masks of dropout would be others.
        "constant_and_index_propagation": False,
    }
    with warnings.catch_warnings():
        # Inductor itself, as it is imported, uses parts of torch that torch calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Imported here, for it takes longer than all the rest of the library.
        import torch._inductor

        run = torch._inductor.compile(graph, list(traced.inputs), options=options)
    return run if fates is None else overwriting(run, fates), traced.structure
