"""Compiled predictions: a layer's `predict` as one graph, by torch's Inductor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.compiled.donation import Flat
from lincoln_fn.compiled.graphs import graph_of
from lincoln_fn.compiled.structures import Layouts, Structure, builder, flatten, layouts
from lincoln_fn.compiled.tracing import Program
from lincoln_fn.fastpath import fast
from lincoln_fn.fastpath.bfloat16 import precision
from lincoln_fn.fastpath.plain import is_plain
from lincoln_fn.layer import Arrays, Layer, Params

# The structure of params and x, their tensors' layouts, the number of threads, and how precise
# products are to be.
Kind: TypeAlias = tuple[Structure, Layouts, int, str]


@attrs.frozen(eq=False)
class CompiledPrediction:
    """A layer's `predict`, compiled.

    It remembers a graph, and what puts its outputs together, for each kind of arguments. This is a
    memo and no state: what it holds would be found anew. A pickle leaves it out.
    """

    layer: Layer
    graphs: dict[Kind, tuple[Flat, Callable[[Sequence[Tensor]], Arrays]]] = attrs.field(
        factory=dict, init=False
    )

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
        kind = structure, layouts(leaves), torch.get_num_threads(), precision()
        if kind not in self.graphs:
            made, of_y = graph_of(_program(self.layer), params, x)
            self.graphs[kind] = made.run, builder(of_y)
        run, build = self.graphs[kind]
        with torch.no_grad():
            *outputs, value = run(leaves)
        # The graph cannot raise an error, but makes this nan: the layer itself says why.
        return build(outputs) if math.isfinite(value.item()) else self.layer.predict(params, x)


def _program(layer: Layer) -> Program:
    quick = fast(layer)

    def pure(params: Params, x: Arrays) -> tuple[Arrays, Tensor]:
        # The number is 0, or nan if an index is out of range.
        return quick.predict(params, x), torch.zeros((), device=tree.leaves(x)[0].device)

    return Program(str(layer), "layer", "the prediction", pure, layer.predict)
