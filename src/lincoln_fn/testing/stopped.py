"""Layers and losses whose stopped gradients are true: what is stopped becomes a constant.

`stop_gradient` and `constant` have a dx of 0, which is not the derivative of what they compute. The
checker holds the output of each at its first value, wherever x and params are moved to. Of that
function 0 is the derivative, and all else in the layer is checked as it is.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lincoln_fn.combine import constant
from lincoln_fn.core import Arrays, Cache, Layer, Params, made_by, tree
from lincoln_fn.layers import stop_gradient
from lincoln_fn.losses import Loss, through
from lincoln_fn.losses.internal import map_parts, through_of
from lincoln_fn.walk.internal import map_paths, paths


def hold_stopped(layer: Layer) -> Layer:
    """Make a layer in which the outputs of what stops a gradient stay at their first values."""
    if not any(_stops(part) for _, part in paths(layer)):
        return layer
    return map_paths(lambda part, path: _held(part) if _stops(part) else part, layer)


def hold_stopped_of_loss(loss: Loss) -> Loss:
    """Make a loss in which the outputs of what stops a gradient stay at their first values."""
    if (pair := through_of(loss)) is not None:
        layer, behind = pair
        return through(hold_stopped(layer), hold_stopped_of_loss(behind))
    return map_parts(hold_stopped_of_loss, loss)


def _stops(layer: Layer) -> bool:
    return made_by(layer, constant, stop_gradient.stop_gradient)


def _held(layer: Layer) -> Layer:
    """Let a layer return its first output again, for each shape of it."""
    # The first call gets what the check was given, without a tangent.
    first: dict[tuple[object, ...], Arrays] = {}

    def hold(x: Arrays, y: Arrays) -> Arrays:
        kind = tuple((leaf.shape, leaf.dtype) for leaf in tree.leaves(y))
        moving = [leaf for leaf in tree.leaves(x) if leaf.is_floating_point()]
        held = first.setdefault(kind, y)
        # Autograd sees that it depends on x, with the derivative 0.
        return tree.map(partial(_depending, moving), held)

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        y, cache = layer.forward(params, x)
        return hold(x, y), cache

    def predict(params: Params, x: Arrays) -> Arrays:
        return hold(x, layer.predict(params, x))

    return layer.replace(
        forward=forward,
        predict=predict,
        backward=layer.backward,
        input_grad=layer.input_grad,
        grads=layer.grads,
    )


def _depending(on: list[Tensor], y: Tensor) -> Tensor:
    if not on or not y.is_floating_point():
        return y
    return y + 0 * torch.stack([leaf.sum() for leaf in on]).sum()
