"""What is computed from the gradients of single examples.

L is a sum of one term for each example, L = sum_n L_n. The gradient of example n is

    d_n = (dL_n)/("dparams"),    so that    "dparams" = sum_n d_n

g, which is dL/dy, decides the scale. For a loss with reduction "sum", d_n is the gradient of the
example's own loss. For a loss with reduction "mean", it is that gradient divided by N. Of a loss
that mixes the examples, as a contrast does, d_n is what reaches the parameters by example n's
output: no gradient of a loss of its own, and none that replacing another example would leave.

Each function walks back once. The examples are on axis 0 of every layer's output.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, NonNegative, Params, Positive, PositiveInt, tree
from lincoln_fn.per_example import forms, network
from lincoln_fn.per_example.network import check_any, examples_in, measure, sum_weighted, terms_of
from lincoln_fn.training import Gradient, GradientState


def gradients(net: Layer, params: Params, cache: Cache, g: Arrays) -> Params:
    """Compute the gradient of every example: d_n, whose sum over n is `net.grads`.

    Each leaf has an axis of N examples before its own axes.

    Args:
        net: the network. Each of its layers has the examples on axis 0 of its output.

    Raises:
        LayerError: if a layer mixes examples, as batch norm does, or has no batch on axis 0.

    Example:
        >>> net, x = lf.dense(2), torch.ones(5, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> gradients(net, params, net.forward(params, x)[1], torch.ones(5, 2))
        Params(weight=float32[5, 3, 2], bias=float32[5, 2])
    """
    terms, count = network.terms_of("gradients", net, params, cache, g), network.examples_in(g)

    def each(p: Tensor, term: core.Term | Tensor) -> Tensor:
        if isinstance(term, Tensor):
            return term.expand(count, *term.shape)
        return forms.gradients(term, p)

    return core.cast_like(tree.map(each, params, terms), params)


def squared_norms(net: Layer, params: Params, cache: Cache, g: Arrays) -> Float[Tensor, " N"]:
    """Compute ||d_n||^2 of every example, over all parameters together.

    Most layers give it without d_n. For a dense layer it is ||x_n||^2 ||g_n||^2.

    Source:
        Goodfellow, "Efficient Per-Example Gradient Computations", 2015.

    Example:
        >>> net, x = lf.dense(2, bias=False), torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> params = net.init(lf.Key(0), x)
        >>> squared_norms(net, params, net.forward(params, x)[1], torch.ones(2, 2))
        tensor([10., 18.])
    """
    return network.measure(params, network.terms_of("squared_norms", net, params, cache, g), g)[0]


def gram(net: Layer, params: Params, cache: Cache, g: Arrays) -> Float[Tensor, "N N"]:
    """Compute <d_n, d_m> of every pair of examples, over all parameters together.

    Where it is positive, a step along the gradient of example m reduces the loss of example n, too.
    On the diagonal are the squared norms.

    Source:
        Jacot, Gabriel and Hongler, "Neural Tangent Kernel", NeurIPS 2018: with g = 1, it is the
        kernel of a network with one output.

    Example:
        >>> net, x = lf.dense(1, bias=False), torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> params = net.init(lf.Key(0), x)
        >>> gram(net, params, net.forward(params, x)[1], torch.ones(2, 1))
        tensor([[5., 3.],
                [3., 9.]])
    """
    terms, count = network.terms_of("gram", net, params, cache, g), network.examples_in(g)
    leaves: list[core.Term | Tensor] = [*tree.leaves(terms)]
    pairs = zip(tree.leaves(params), leaves, strict=True)
    each = [forms.gram(term, p) for p, term in pairs if isinstance(term, core.Term)]
    return reduce(torch.add, each, tree.leaves(g)[0].new_zeros(count, count))


def weighted_sum(
    net: Layer, params: Params, cache: Cache, g: Arrays, weights: Float[Tensor, " N"]
) -> Params:
    """Compute sum_n w_n d_n, the gradient in which each example has a weight.

    With weights of 1 it is `net.grads`.

    Example:
        >>> net, x = lf.dense(1, bias=False), torch.tensor([[1.0], [10.0]])
        >>> params, weights = net.init(lf.Key(0), x), torch.tensor([3.0, 0.5])
        >>> weighted_sum(net, params, net.forward(params, x)[1], torch.ones(2, 1), weights).weight
        tensor([[8.]])
    """
    terms = network.terms_of("weighted_sum", net, params, cache, g)
    count = network.examples_in(g)
    if not isinstance(weights, Tensor) or weights.shape != (count,):
        got = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
        raise core.unexpected("weighted_sum", f"weights of shape ({count},)", got)
    return core.cast_like(network.sum_weighted(params, terms, weights), params)


def second_moment(net: Layer, params: Params, cache: Cache, g: Arrays) -> Params:
    """Compute the mean of d_n^2 over the examples, element by element.

    Example:
        >>> net, x = lf.dense(1, bias=False), torch.tensor([[1.0], [3.0]])
        >>> params = net.init(lf.Key(0), x)
        >>> second_moment(net, params, net.forward(params, x)[1], torch.ones(2, 1)).weight
        tensor([[5.]])
    """
    terms = network.terms_of("second_moment", net, params, cache, g)
    network.check_any("second_moment", network.examples_in(g))
    return core.cast_like(_second_moment(params, terms), params)


def variance(net: Layer, params: Params, cache: Cache, g: Arrays) -> Params:
    """Compute the variance of d_n over the examples, element by element.

    It is computed as a difference from the second moment, and has that one's rounding errors.

    Example:
        >>> net, x = lf.dense(1, bias=False), torch.tensor([[1.0], [3.0]])
        >>> params = net.init(lf.Key(0), x)
        >>> variance(net, params, net.forward(params, x)[1], torch.ones(2, 1)).weight
        tensor([[1.]])
    """
    terms = network.terms_of("variance", net, params, cache, g)
    count = network.examples_in(g)
    network.check_any("variance", count)
    mean = network.sum_weighted(params, terms, tree.leaves(g)[0].new_full((count,), 1 / count))

    def difference(squares: Tensor, mean: Tensor) -> Tensor:
        return (squares - mean.square()).clamp(min=0)

    return core.cast_like(tree.map(difference, _second_moment(params, terms), mean), params)


def _second_moment(params: Params, terms: Params) -> Params:
    return network.map_terms(lambda term, p: forms.square_sum(term, p) / term.count, params, terms)


@core.constructor
def clipped(
    max_norm: Positive,
    *,
    noise: NonNegative = 0.0,
    reduction: Literal["mean", "sum"] = "mean",
    batch_size: PositiveInt | None = None,
) -> Gradient:
    """Clip the gradient of each example's loss to a norm, add them up, and add noise: DP-SGD.

    dparams = (sum_n h_n min(1, C / ||h_n||) + sigma C z) / B, with h_n the gradient of example n's
    own loss, its norm over all parameters together, and z drawn from the standard normal
    distribution by the step's key. No example changes the sum by more than C, so the noise hides
    whether an example was there.

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
    net: Layer, params: Params, cache: Cache, g: Arrays, state: GradientState, key: core.Key, *,
    max_norm: float, noise: float, is_mean: bool, size: int | None,
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


def _noisy(dparams: Params, key: core.Key, std: float) -> Params:
    leaves = iter(range(len(tree.leaves(dparams))))

    def noisy(leaf: Tensor) -> Tensor:
        drawn = core.keys.normal(key.fold_in(next(leaves)).near(leaf), tuple(leaf.shape), std=std)
        return leaf + drawn.to(leaf.dtype)

    return tree.map(noisy, dparams)
