"""The loss of test examples after training, and its gradient, also in running statistics."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from lincoln_fn.combine import inference
from lincoln_fn.core import Arrays, Cache, Layer, Params
from lincoln_fn.curvature.internal import loss_gradient, walk_of
from lincoln_fn.losses import Loss
from lincoln_fn.losses.internal import unweighted
from lincoln_fn.replay.running_statistics import Statistics, is_running, of_inference
from lincoln_fn.training import Batch
from lincoln_fn.walk.internal import ALL, Wants


def loss_after(
    net: Layer, loss: Loss, test: Batch, params: Params
) -> tuple[Tensor, Params, Statistics]:
    """Compute the loss of test examples, its gradient, and the bars of running statistics."""
    x, target = test
    after, loss = inference(net), unweighted(loss) or loss
    prediction, cache = after.forward(params, x)
    value = loss.forward(prediction, target)[0]
    statistics: Statistics = {}
    walk, g = walk_of(partial(_leaf, statistics)), loss_gradient(loss, prediction, target)
    return value, walk(after, params, cache, g, ALL)[1], statistics


def _leaf(
    statistics: Statistics, layer: Layer, path: str, params: Params, cache: Cache, g: Arrays,
    wants: Wants,
) -> tuple[Arrays, Params]:  # fmt: skip
    dx, dparams = layer.backward(params, cache, g)
    bars = of_inference(layer, params, cache, dx) if is_running(params) else None
    if bars is not None:
        before = statistics.get(path, (0, 0))
        statistics[path] = (bars[0] + before[0], bars[1] + before[1])
    return dx, dparams
