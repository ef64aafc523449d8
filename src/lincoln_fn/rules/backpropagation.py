"""Backpropagation through a network that a rule has made, and the angle between both gradients.

A rule changes only the loop back. With the loops that are listed here in the places of the rules',
the same params and the same cache give the true gradient. With d and t the two gradients of a
layer, each all in one vector,

    "angle" = acos(d * t / (|d| |t|))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine.serial import back as serial_back
from lincoln_fn.core import Arrays, Cache, Layer, Params, checked, made_by, unexpected
from lincoln_fn.losses.internal import Loss, check_one_number
from lincoln_fn.rules import feedback
from lincoln_fn.rules.direct_feedback_alignment import direct_feedback_alignment
from lincoln_fn.rules.feedback import straight_through
from lincoln_fn.rules.feedback_alignment import feedback_alignment, kolen_pollack, sign_symmetric
from lincoln_fn.rules.forward_forward import forward_forward
from lincoln_fn.rules.local_losses import local_losses
from lincoln_fn.rules.pepita import pepita
from lincoln_fn.rules.pepita import true_back as pepita_true_back
from lincoln_fn.rules.relp import with_gradient
from lincoln_fn.walk import is_trained
from lincoln_fn.walk.internal import ALL, Back, Wants, always, composition_of, one_part, walk_back


def _global(own: Back) -> Back:
    assert isinstance(own, partial)
    return partial(own, is_local=False)


def _no_gradient(own: Back) -> Back:
    expected = "a rule whose network backpropagation can train"
    raise unexpected("backpropagation", expected, "forward_forward, whose loss is local")


_OF_MATRICES: Final = (feedback_alignment, kolen_pollack, sign_symmetric)
# By rule, how to make the loop back of backpropagation from its own. Any: the rule's options.
_LOOPS: Final[dict[Callable[..., object] | None, Callable[[Back], Back]]] = {
    **dict.fromkeys(_OF_MATRICES, lambda own: one_part.back),
    direct_feedback_alignment: lambda own: serial_back,
    forward_forward: _no_gradient,
    local_losses: _global,
    pepita: lambda own: pepita_true_back,
    straight_through: lambda own: one_part.back,
}
_TRUE_LOOPS: Final = {of: made for of, made in _LOOPS.items() if of is not straight_through}


@checked
def backpropagation(net: Layer) -> Layer:
    """Take the rules out of a network: the same params and caches, with the true gradient.

    For `local_losses` it is the gradient of the network's own output, and not of its heads'.

    Returns:
        The network. The matrices of `kolen_pollack`, on which y does not depend, have gradient 0.

    Raises:
        LayerError: for `forward_forward`, whose blocks have no common loss.

    Example:
        >>> net, x = lf.rules.feedback_alignment(lf.dense(2)), torch.ones(1, 3)
        >>> params, g = net.init(lf.Key(0), x), torch.ones(1, 2)
        >>> dx = backpropagation(net).input_grad(params, net.forward(params, x)[1], g)
        >>> (dx == g @ params.params.weight.mT).all()
        tensor(True)
    """
    return _without(net, _LOOPS)


def with_true_gradient(net: Layer) -> Layer:
    """Take the rules out of a network, but for `straight_through`."""
    return _without(net, _TRUE_LOOPS)


def _without(
    net: Layer, loops: Mapping[Callable[..., object] | None, Callable[[Back], Back]]
) -> Layer:
    composed = composition_of(net)
    if composed is None:
        return with_gradient(net)
    parts = tuple(_without(part, loops) for part in composed.parts)
    loop = loops.get(core.constructor_of(net))
    if loop is None and all(new is old for new, old in zip(parts, composed.parts, strict=True)):
        return net
    # The true loop back may need the dx of every part.
    changes: dict[str, Any] = {}  # Any: arguments of `composition`
    if loop is not None:
        changes = {"back": loop(composed.back), "needs_dx": always}
    if loop is not None and made_by(net, *_OF_MATRICES):
        changes["gather"] = feedback.true_gather
    layer = net.rebuild(parts, **changes)
    return layer if layer.name == net.name else layer.replace(name=net.name)


@checked
def alignment(
    net: Layer, params: Params, x: Arrays, loss: Loss, target: Arrays
) -> dict[str, float]:
    """Measure the angle between the gradient of a rule and the true one, for each layer.

    It runs like a training step, without `advance` and the update. 0 degrees is the same direction;
    below 90 degrees, a small step of the rule makes the loss smaller. The last layer's is 0 in most
    rules.

    Args:
        loss: with reduction mean or sum.

    Returns:
        The angle in degrees, from 0 to 180, by the path of each single layer that is trained; `nan`
        if a gradient is 0. A layer that is used several times has the angle between the sums.

    Raises:
        LayerError: for `forward_forward`, whose blocks have no common loss.

    Example:
        >>> net, x = lf.rules.feedback_alignment(lf.serial(lf.dense(5), lf.dense(2))), torch.eye(3)
        >>> params, loss = net.init(lf.Key(0), x), lf.losses.mse()
        >>> angles = alignment(net, params, x, loss, torch.ones(3, 2))
        >>> list(angles), round(angles["1.0"]), 0 < angles["0.0"] < 180
        (['0.0', '1.0'], 0, True)
    """
    true_net = backpropagation(net)
    with torch.no_grad():
        prediction, cache = net.forward(params, x)
        value, loss_cache = loss.forward(prediction, target)
        check_one_number(loss.name, value)
        g = loss.backward(loss_cache)
        rule, true = (_gradients(each, params, cache, g) for each in (net, true_net))
    return {path: _angle(rule[path], true[path]) for path in sorted(rule, key=_positions)}


def _gradients(net: Layer, params: Params, cache: Cache, g: Arrays) -> dict[str, Tensor]:
    vectors: dict[str, Tensor] = {}

    def visit(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, None]:
        if not (wants.dparams and is_trained(params)):
            return layer.input_grad(params, cache, g), None
        dx, dparams = layer.backward(params, cache, g)
        vector = torch.cat([leaf.flatten().double() for leaf in core.tree.leaves(dparams)])
        vectors[path] = vectors[path] + vector if path in vectors else vector
        return dx, None

    walk_back(visit, net, params, cache, g, ALL)
    return vectors


def _positions(path: str) -> list[int]:
    return [int(position) for position in path.split(".") if position]


def _angle(d: Tensor, t: Tensor) -> float:
    norms = torch.linalg.vector_norm(d) * torch.linalg.vector_norm(t)
    return math.degrees(torch.acos((d @ t / norms).clamp(-1, 1)).item())
