"""Loss of what a layer makes of the prediction: L = loss(layer(prediction), target).

Derivation. With y = layer(prediction), the chain rule goes through the loss, and then through the
layer. "back" is the backward of each:

    dy = "back"_("loss")(g)
    dprediction = "back"_("layer")(dy)

Cache: the layer's own and the loss's own.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from lincoln_fn.core import Arrays, Layer, Params, bare, check_cache, constructor, record
from lincoln_fn.core import Cache as AnyCache
from lincoln_fn.losses.internal import Cotangent, Loss
from lincoln_fn.walk.internal import composition_of


@record
class Cache:
    """The caches of the layer and of the loss."""

    of_layer: AnyCache
    of_loss: AnyCache


def forward(
    prediction: Arrays, target: Arrays, *, layer: Layer, loss: Loss
) -> tuple[Tensor, Cache]:
    """Compute L = loss(layer(prediction), target)."""
    y, of_layer = layer.forward(params_of(layer), prediction)
    value, of_loss = loss.forward(y, target)
    return value, Cache(of_layer, of_loss)


def backward(cache: Cache, g: Cotangent = 1.0, *, layer: Layer, loss: Loss) -> Arrays:
    """Compute dy of the loss, and dprediction of the layer."""
    check_cache("through", cache, Cache)
    return layer.input_grad(params_of(layer), cache.of_layer, loss.backward(cache.of_loss, g))


def params_of(layer: Layer) -> Params:
    """Make the params of a layer that has none: () of a single layer."""
    whole = composition_of(layer)
    return () if whole is None else whole.arrange.join(tuple(map(params_of, whole.parts)), None)


@constructor
def through(layer: Layer, loss: Loss) -> Loss:
    """Compute a loss of what a layer makes of the prediction: L = loss(layer(prediction), target).

    It gives a loss some entries of a prediction, as `select` returns them, or stops the gradient of
    one by `stop_gradient`. So a loss in which a gradient is stopped is made of parts whose
    gradients are true, and `check_loss` can check it.

    Args:
        layer: a layer without params.

    Example:
        >>> second = through(lf.select(1), lf.losses.mse())
        >>> value, cache = second.forward((torch.zeros(2), torch.ones(2)), torch.zeros(2))
        >>> value, second.backward(cache)
        (tensor(1.), (tensor([0., 0.]), tensor([1., 1.])))
    """
    mixes = loss.mixes_examples or None  # it is not known what the layer does
    return bare(partial(Loss, mixes_examples=mixes), forward, backward)


def through_of(loss: Loss) -> tuple[Layer, Loss] | None:
    """Return the layer and the loss that `through` was given; None for any other loss."""
    spec = loss.spec
    return (spec["layer"], spec["loss"]) if spec is not None and spec.of is through else None
