"""Compiled predictions: a layer's `predict` as one graph, by torch's Inductor."""

from __future__ import annotations

import attrs

from lincoln_fn.compiler.function import of_function
from lincoln_fn.compiler.trace.tracing import Program
from lincoln_fn.core import Layer
from lincoln_fn.fastpath import fast


def of_prediction(layer: Layer) -> Program:
    """Describe a prediction: the faster layer is traced, and errors are those of the layer."""
    return attrs.evolve(
        of_function(fast(layer).predict),
        name=str(layer),
        where="layer",
        result="the prediction",
        plain=layer.predict,
    )
