"""Each layer's output and gradient, by one forward and one backward pass."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Literal, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, Params, checked, map_layers, named_leaves, tree
from lincoln_fn.inspect.records import LayerTrace, NonFinite, Trace
from lincoln_fn.losses.internal import Loss, check_one_number
from lincoln_fn.walk.internal import ALL, Wants, walk_back
from lincoln_fn.walk.walks import there


@checked
def trace(
    net: Layer,
    params: Params,
    x: Arrays,
    loss: Loss,
    target: Arrays,
    *,
    unit_axis: int | None = None,
) -> Trace:
    """Run a network forward and backward, and record the output and the gradient of every layer.

    It runs like a training step, without `advance` and the update: dropout is on, and batch norm
    uses the batch. Layers inside a composition have records, too. A layer that is used several
    times has a record for each use. A layer that runs again in the backward pass, as within
    `checkpointed`, is recorded once. The continuous adjoint of `ode` runs its field at other points
    than the forward pass; each gradient is recorded at the use whose output is nearest.

    The units of an output are the positions along one of its axes. For an output of four axes or
    more, such as images, that is axis 1, the channels. For any other it is the last axis, the
    features. A unit is dead if it is exactly 0 for every example and at every other position.

    Args:
        loss: with reduction mean or sum.
        unit_axis: the axis of the units in every output; 1 for a network of 1d convolutions. An
            output that lacks this axis, or has only one axis, has no share of dead units.

    Example:
        >>> net = lf.serial(lf.dense(2), lf.relu())
        >>> x, params = torch.eye(2), net.init(lf.Key(0), torch.eye(2))
        >>> records = trace(net, params, x, lf.losses.mse(), torch.zeros(2, 2))
        >>> [(layer.path, layer.name, layer.gradient.shape) for layer in records]
        [('0', 'dense(2)', torch.Size([2, 2])), ('1', 'relu()', torch.Size([2, 2]))]
    """
    uses: list[_Use] = []

    def going(layer: Layer, path: str, params: Params, x: Arrays) -> tuple[Arrays, _Watched]:
        y, watched = layer.forward(params, x)
        use, _ = watched
        use.path, use.is_forward = path, True
        uses.append(use)
        return y, watched

    def coming(
        layer: Layer, path: str, params: Params, watched: _Watched, g: Arrays, wants: Wants
    ) -> tuple[Arrays, None]:
        use, _ = watched
        if not use.is_forward:  # a composition has run the layer again
            unreached = [each for each in uses if each.path == path and each.g is None]
            use = min(unreached, key=partial(_distance, use), default=use)
        use.g = g
        if not wants.dparams:
            return layer.input_grad(params, watched, g), None
        dx, use.dparams = layer.backward(params, watched, g)
        return dx, None

    net = map_layers(_watch, net)
    prediction, cache = there(going, net, params, x)
    value, loss_cache = loss.forward(prediction, target)
    check_one_number(loss.name, value)
    walk_back(coming, net, params, cache, loss.backward(loss_cache), ALL)
    counts: Counter[str] = Counter()
    records = []
    for use in uses:
        counts[use.path] += 1
        records.append(_record(use, counts[use.path], unit_axis))
    return Trace(records)


@attrs.define(eq=False)
class _Use:
    """One use of a single layer. The backward walk fills in the gradient, which is never None."""

    layer: Layer
    y: Arrays
    path: str = ""
    is_forward: bool = False
    g: Arrays = None
    dparams: Params = None


# The use of a layer, and its cache.
_Watched: TypeAlias = tuple[_Use, Cache]


def _watch(layer: Layer) -> Layer:
    """Let a layer keep its use beside its cache, also where a composition runs it again."""

    def forward(params: Params, x: Arrays) -> tuple[Arrays, _Watched]:
        y, cache = layer.forward(params, x)
        return y, (_Use(layer, y), cache)

    return layer.replace(
        forward=forward,
        predict=layer.predict,
        backward=lambda params, watched, g: layer.backward(params, watched[1], g),
        input_grad=lambda params, watched, g: layer.input_grad(params, watched[1], g),
        grads=lambda params, watched, g: layer.grads(params, watched[1], g),
        advance=lambda params, watched: layer.advance(params, watched[1]),
    )


def _distance(first: _Use, second: _Use) -> float:
    pairs = zip(_floating(first.y), _floating(second.y), strict=False)
    return _norm([a - b for a, b in pairs if a.shape == b.shape]) or 0.0


def _record(use: _Use, number: int, unit_axis: int | None) -> LayerTrace:
    return LayerTrace(
        path=use.path,
        name=use.layer.name,
        use=number,
        output=use.y,
        gradient=use.g,
        output_norm=_norm(use.y),
        gradient_norm=_norm(use.g),
        dparams_norm=_norm(use.dparams),
        dead=_dead_share(use.y, unit_axis),
        non_finite=_first_non_finite("output", use.y) or _first_non_finite("gradient", use.g),
    )


def _norm(arrays: Arrays) -> float | None:
    # In double precision, because the square of a large float32 is infinite.
    norms = [torch.linalg.vector_norm(leaf, dtype=torch.float64) for leaf in _floating(arrays)]
    return torch.linalg.vector_norm(torch.stack(norms)).item() if norms else None


def _dead_share(y: Arrays, unit_axis: int | None) -> float | None:
    dead = []
    for leaf in _floating(y):
        axis = (1 if leaf.ndim >= 4 else -1) if unit_axis is None else unit_axis
        if leaf.ndim >= 2 and leaf.numel() and -leaf.ndim <= axis < leaf.ndim:
            dead.append((leaf == 0).movedim(axis, 0).flatten(1).all(1))
    return torch.cat(dead).double().mean().item() if dead else None


def _first_non_finite(where: Literal["output", "gradient"], arrays: Arrays) -> NonFinite | None:
    for entry, leaf in named_leaves(arrays):
        found = torch.nonzero(~torch.isfinite(leaf))
        if len(found):
            index = tuple(found[0].tolist())
            return NonFinite(where, entry, index, leaf[index].item())
    return None


def _floating(arrays: Arrays) -> list[Tensor]:
    return [leaf for leaf in tree.leaves(arrays) if leaf.is_floating_point()]
