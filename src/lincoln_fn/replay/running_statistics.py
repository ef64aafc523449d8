"""The loss of test examples after training, and how running statistics are part of it.

Derivation. In training, batch norm moves its running statistics s by those of the batch, with the
momentum w; M is the number of values in a channel:

    mean <- (1 - w) mean + w sum x / M
    var <- (1 - w) var + w sum (x - mean_x)^2 / (M - 1)

So the bars of the new statistics add to that of x, and then become those of the old ones:

    bar x += w (bar mean / M + 2 (x - mean_x) bar var / (M - 1))
    bar mean <- (1 - w) bar mean
    bar var <- (1 - w) bar var

Instance norm takes the mean over the N examples of each example's own statistics, so both terms are
divided by N. After training, y = (x - mean) rstd w + b with rstd = 1 / sqrt(var + epsilon), so

    bar mean = -sum dx
    bar var = -1/2 sum dx hat x rstd
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn import combine
from lincoln_fn.core import Arrays, Cache, Layer, Params, made_by
from lincoln_fn.curvature.internal import loss_gradient, walk_of
from lincoln_fn.layers import batch_norm, instance_norm
from lincoln_fn.layers.common.normalisation import Running, moved
from lincoln_fn.losses.internal import Loss, unweighted
from lincoln_fn.training import Batch
from lincoln_fn.walk.internal import ALL, Wants

# By the path of the layer: the bars of its mean and of its variance.
Statistics: TypeAlias = dict[str, tuple[Tensor, Tensor]]


def loss_after(
    net: Layer, loss: Loss, test: Batch, params: Params
) -> tuple[Tensor, Params, Statistics]:
    """Compute the loss of test examples, its gradient, and the bars of running statistics."""
    x, target = test
    after, loss = combine.inference(net), unweighted(loss) or loss
    prediction, cache = after.forward(params, x)
    value = loss.forward(prediction, target)[0]
    statistics: Statistics = {}
    walk, g = walk_of(partial(_leaf, statistics)), loss_gradient(loss, prediction, target)
    return value, walk(after, params, cache, g, ALL)[1], statistics


def _leaf(
    statistics: Statistics, layer: Layer, path: str, params: Params, cache: Cache, g: Arrays,
    wants: Wants,
) -> tuple[Arrays, Params]:  # fmt: skip
    """Visit a layer, and add the bars of the statistics that it has normalised by."""
    dx, dparams = layer.backward(params, cache, g)
    running = getattr(params, "running", None)
    if isinstance(running, Running) and made_by(layer, combine.inference):
        shared = [axis for axis in range(dx.ndim) if axis != cache.axis]
        of_var = -0.5 * (dx * cache.x_hat).sum(shared) * cache.rstd
        before = statistics.get(path, (0, 0))
        statistics[path] = (-dx.sum(shared) + before[0], of_var + before[1])
    return dx, dparams


def of_training(
    params: Params, cache: Cache, bars: tuple[Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]] | None:
    """Compute what is added to bar x, and the bars of the old statistics; None if there is none."""
    if not isinstance(cache, batch_norm.Cache | instance_norm.Cache) or not cache.x_hat.numel():
        return None
    of_batch = isinstance(cache, batch_norm.Cache)
    axis = 1 if of_batch else cache.mean.ndim - 1
    places = cache.x_hat.ndim - 1 - axis
    group = cache.x_hat.shape[axis + 1 :].numel() * (len(cache.x_hat) if of_batch else 1)
    groups = 1 if of_batch or not axis else len(cache.x_hat)
    one, zero = torch.ones_like(bars[0]), torch.zeros_like(bars[0])
    # How much of the old statistics stays is what moves 1 towards 0.
    kept = moved(Running(one, one, params.running.num_batches), zero, zero, cache.momentum).mean
    w = 1 - kept
    mean_bar, var_bar = ((w * bar / groups).reshape(*bar.shape, *(1,) * places) for bar in bars)
    centred = cache.x_hat / cache.rstd
    of_x = mean_bar / group + 2 * centred * var_bar / (group - 1)
    return of_x, (kept * bars[0], kept * bars[1])
