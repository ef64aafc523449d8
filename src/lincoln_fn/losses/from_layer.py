"""Loss that a layer computes of prediction and target: l = layer((prediction, target)).

Derivation. "back" is the layer's backward, which gives the gradient of both of its inputs:

    (dprediction, dtarget) = "back"(dl)

Cache: the layer's own, and stand-ins for l and the prediction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Layer, constructor, record, stand_in, tree, wrong_kind
from lincoln_fn.core import Cache as AnyCache
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, make_loss
from lincoln_fn.losses.through import params_of


@record
class Cache:
    """The layer's cache, and stand-ins for l and the prediction."""

    of_layer: AnyCache
    values: Tensor
    prediction: Arrays


def forward(prediction: Arrays, target: Arrays, *, layer: Layer) -> tuple[Tensor, Cache]:
    """Compute l = layer((prediction, target))."""
    given = tuple(tree.leaves((prediction, target)))
    values, of_layer = layer.forward(params_of(layer), given if len(given) > 1 else given[0])
    if not isinstance(values, Tensor):
        raise wrong_kind("from_layer", f"the output of {layer.name}", values, "tensor")
    return values, Cache(of_layer, stand_in(values), tree.map(stand_in, prediction))


def backward(cache: Cache, dl: Cotangent, *, layer: Layer) -> Arrays:
    """Compute dprediction, and leave out dtarget."""
    dx = layer.input_grad(params_of(layer), cache.of_layer, torch.ones_like(cache.values) * dl)
    entries = iter(dx if isinstance(dx, tuple) else (dx,))
    return tree.map(lambda _: next(entries), cache.prediction)


@constructor
def from_layer(layer: Layer, *, reduction: Reduction = "mean") -> Loss:
    """Make a loss of a layer that computes it, such as a `graph`: l = layer((prediction, target)).

    The loss has the gradient that the layer has, and needs no backward of its own. The layer gets
    one tuple of the tensors of the prediction and of the target, or the only one of them.

    Args:
        layer: a layer without params, whose output has any shape.

    Example:
        >>> loss = lf.losses.from_layer(lf.graph(lambda y, target: (y - target).exp()))
        >>> value, cache = loss.forward(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]))
        >>> value, loss.backward(cache)
        (tensor(1.), tensor([0.5000, 0.5000]))
    """
    return make_loss(forward, backward, inputs=(), mixes_examples=None)
