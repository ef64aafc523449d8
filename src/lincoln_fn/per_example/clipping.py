"""DP-SGD: the sum of clipped gradients, with noise.

With l_n the loss of example n and h_n its gradient,

    clip(h_n) = h_n min(1, C / ||h_n||)
    dparams = (sum_n clip(h_n) + sigma C z) / B    with z from the standard normal distribution

No example changes the sum by more than C, so the noise hides whether an example was there.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, NonNegative, Params, Positive, PositiveInt, keys, tree
from lincoln_fn.per_example.network import check_any, examples_in, measure, sum_weighted, terms_of
from lincoln_fn.training import Gradient, GradientState


@core.constructor
def clipped(
    max_norm: Positive,
    *,
    noise: NonNegative = 0.0,
    reduction: Literal["mean", "sum"] = "mean",
    batch_size: PositiveInt | None = None,
) -> Gradient:
    """Clip the gradient of each example's loss to a norm, add them up, and add noise: DP-SGD.

    dparams = (sum_n h_n min(1, max_norm / ||h_n||) + noise max_norm z) / B, with h_n the gradient
    of example n's own loss, its norm over all parameters together, and z drawn from the standard
    normal distribution by the step's key.

    Args:
        max_norm: the largest norm that a gradient keeps, C.
        noise: the standard deviation of the noise as a multiple of C, sigma. Every number of every
            trained parameter gets noise, such as an embedding's row `padding_idx`, too.
        reduction: that of the step's loss. For "mean", h_n is N times the example's part of the
            gradient. So the mean has to be over the N examples. Class weights, `ignore_index` and
            masks make it depend on the other examples, which no privacy account allows: take "sum".
        batch_size: B. None is the number of examples in the batch for "mean", and 1 for "sum". If
            batches are drawn at random, for a privacy account, it is their expected size.

    Warns:
        UserWarning: for noise without batch_size, if reduction is "mean".

    Raises:
        LayerError: from `make_step`, if an example moves the gradients of others in the loss (of a
            loss that does not say so, from the first step); from the step, as `gradients` does, or
            for a mean over no example.

    Source:
        Abadi and others, "Deep Learning with Differential Privacy", CCS 2016, algorithm 1.

    Example:
        >>> net, loss = lf.dense(10), lf.losses.softmax_cross_entropy()
        >>> gradient = clipped(1.0, noise=1.1, batch_size=64)
        >>> lf.make_step(net, loss, lf.optim.sgd(0.1), gradient=gradient).gradient
        clipped(1.0, noise=1.1, batch_size=64)
    """
    if noise and batch_size is None and reduction == "mean":
        problem = "clipped: noise without batch_size is divided by the examples in each batch"
        mend = "write batch_size=, their expected number, which a privacy account asks for"
        core.warn(f"{problem}; {mend}")
    compute = partial(_compute, is_mean=reduction == "mean", size=batch_size)
    return core.bare(partial(Gradient, reduction=reduction, by_example=True), compute)


def _compute(
    net: core.Layer, params: Params, cache: core.Cache, g: Arrays, state: GradientState, key: Key,
    *, max_norm: float, noise: float, is_mean: bool, size: int | None,
) -> tuple[Params, GradientState]:  # fmt: skip
    count = examples_in(g)
    scale = count if is_mean else 1  # h_n = scale d_n
    divisor = size or scale
    check_any("clipped", divisor)
    terms = terms_of("clipped", net, params, cache, g)
    norms, terms = measure(params, terms, g)
    weights = (max_norm / (scale * norms.sqrt())).clamp(max=1) * (scale / divisor)
    dparams = sum_weighted(params, terms, weights)
    if noise:
        dparams = _noisy(dparams, key, noise * max_norm / divisor)
    return core.cast_like(dparams, params), state


def _noisy(dparams: Params, key: Key, std: float) -> Params:
    leaves = iter(range(len(tree.leaves(dparams))))

    def noisy(leaf: Tensor) -> Tensor:
        drawn = keys.normal(key.fold_in(next(leaves)).near(leaf), tuple(leaf.shape), std=std)
        return leaf + drawn.to(leaf.dtype)

    return tree.map(noisy, dparams)
