"""Compiled steps: forward, loss, backward, advance and update as one graph, by torch's Inductor."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable
from typing import Any, Final

import attrs
import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from lincoln_fn.compiled.donation import Flat, overwriting, written_over
from lincoln_fn.compiled.kernels import keep
from lincoln_fn.compiled.tracing import Structure, flatten, trace
from lincoln_fn.data import Batch
from lincoln_fn.train import Step, TrainState

# A flat function and the structure of what it returns.
Compiled = tuple[Flat, Structure]

_OPTIONS: Final = {
    # The key has compared sizes and strides.
    "size_asserts": False,
    "alignment_asserts": False,
    # Its sums of indices do not wrap around at 64 bits, as the draws from a key rely on: with it,
    # the masks of dropout would be others.
    "constant_and_index_propagation": False,
    # A loop of fewer elements is done before a second thread has woken up.
    "cpp.min_chunk_size": 4096,
}


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
        outputs = graph(leaves)
        # The graph cannot raise an error, but makes the value nan: the step itself says why.
        if not math.isfinite(outputs[-1].item()):
            return self.step.pure(state, batch)
        result: tuple[TrainState, Tensor] = returned.unflatten(outputs)
        return result


def _compiled(step: Step, state: TrainState, batch: Batch) -> Compiled:
    traced = trace(step, state, batch)
    keep(traced.graph)
    if not step.donate:
        return _by_inductor(traced.graph, traced.inputs), traced.structure
    graph, fates = written_over(traced, len(flatten(state)[0]))
    return overwriting(_by_inductor(graph, traced.inputs), fates), traced.structure


def _by_inductor(graph: GraphModule, inputs: tuple[Tensor, ...]) -> Flat:
    """Let Inductor compile a graph.

    Its inner half does: what surrounds it prepares for autograd and for functions that change their
    inputs, and takes as long, at every call, as a small network's matrix product.
    """
    with warnings.catch_warnings():
        # Inductor itself, as it is imported, uses parts of torch that torch calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Imported here, for it takes longer than all the rest of the library.
        from torch._inductor import config
        from torch._inductor.compile_fx import compile_fx_inner
        from torch._inductor.decomposition import select_decomp_table
        from torch._inductor.fx_passes.joint_graph import joint_graph_passes

        fake = detect_fake_mode(inputs)
        assert fake is not None  # for the inputs are fake
        with fake, torch.no_grad(), config.patch(_OPTIONS):
            simpler = joint_graph_passes(make_fx(graph, select_decomp_table())(*inputs))
            end = simpler.graph.output_node()
            outputs: Any = end.args[0]  # Any: torch's type for a node's arguments names no list
            end.args = (tuple(outputs),)
            # Those whose strides are to be as traced, so that the next step is of the same kind.
            end.meta["user_visible_output_idxs"] = [
                i for i, output in enumerate(outputs) if isinstance(output, Node)
            ]
            return compile_fx_inner(simpler, inputs, is_inference=True)
