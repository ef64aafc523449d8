"""The angle between the gradient that a rule computes and the true one, layer by layer.

Both gradients come from one forward pass: the loop back is walked twice through the same cache,
once by the rule and once by backpropagation. With d and t the dparams of a layer, all in one
vector,

    "angle" = acos(d * t / (|d| |t|))
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, Params, checked, tree
from lincoln_fn.losses import Loss
from lincoln_fn.losses.internal import check_one_number
from lincoln_fn.rules.backpropagation import backpropagation
from lincoln_fn.walk import is_trained
from lincoln_fn.walk.internal import ALL, Wants, walk_back


@checked
def alignment(
    net: Layer, params: Params, x: Arrays, loss: Loss, target: Arrays
) -> dict[str, float]:
    """Measure the angle between the gradient of a rule and the true one, for each layer.

    It runs like a training step, without `advance` and the update. 0 degrees is the same direction;
    below 90 degrees, a small step of the rule makes the loss smaller. The last layer's is 0 in most
    rules.

    Args:
        net: a network with rules, such as `lf.rules.feedback_alignment` makes.
        loss: with reduction mean or sum.
        target: the target that the loss takes.

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
    """Compute dparams of each single layer, as one vector."""
    vectors: dict[str, Tensor] = {}

    def visit(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, None]:
        if not (wants.dparams and is_trained(params)):
            return layer.input_grad(params, cache, g), None
        dx, dparams = layer.backward(params, cache, g)
        vector = torch.cat([leaf.flatten().double() for leaf in tree.leaves(dparams)])
        vectors[path] = vectors[path] + vector if path in vectors else vector
        return dx, None

    walk_back(visit, net, params, cache, g, ALL)
    return vectors


def _positions(path: str) -> list[int]:
    return [int(position) for position in path.split(".") if position]


def _angle(d: Tensor, t: Tensor) -> float:
    norms = torch.linalg.vector_norm(d) * torch.linalg.vector_norm(t)
    cosine = (d @ t / norms).clamp(-1, 1)
    return math.degrees(torch.acos(cosine).item())
