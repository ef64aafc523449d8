"""Compiled predictions: a layer's `predict` as one graph, by torch's Inductor."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.compiler.graphs import Graphs, computed, graph_of
from lincoln_fn.compiler.trace.structures import flatten
from lincoln_fn.compiler.trace.tracing import Program
from lincoln_fn.fastpath import fast
from lincoln_fn.fastpath.plain import is_plain
from lincoln_fn.layer import Arrays, Layer, Params


@attrs.frozen(eq=False)
class CompiledPrediction:
    """A layer's `predict`, compiled, and its graphs, which a pickle leaves out."""

    layer: Layer
    graphs: Graphs = attrs.field(factory=dict, init=False)

    def __reduce__(self) -> tuple[type[CompiledPrediction], tuple[Layer]]:
        return CompiledPrediction, (self.layer,)

    def __call__(self, params: Params, x: Arrays) -> Arrays:
        """Predict by the graph for such arguments, made now if there is none.

        What has no numbers, or is looked at by autograd, torch.func or a tracer, is left to the
        layer.
        """
        leaves, structure = flatten((params, x))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if any(leaf.is_meta for leaf in tensors) or not is_plain(*tensors):
            return self.layer.predict(params, x)
        return computed(
            self.graphs,
            leaves,
            structure,
            lambda: graph_of(_program(self.layer), params, x),
            lambda: self.layer.predict(params, x),
        )


def _program(layer: Layer) -> Program:
    quick = fast(layer)

    def pure(params: Params, x: Arrays) -> tuple[Arrays, Tensor]:
        # The number is 0, or nan if an index is out of range.
        return quick.predict(params, x), torch.zeros((), device=tree.leaves(x)[0].device)

    return Program(str(layer), "layer", "the prediction", pure, layer.predict)
