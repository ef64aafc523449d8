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

from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, Params, Term, cast_like, tree, unexpected
from lincoln_fn.per_example import forms, network


def gradients(net: Layer, params: Params, cache: Cache, g: Arrays) -> Params:
    """Compute the gradient of every example: d_n, whose sum over n is `net.grads`.

    Args:
        net: the network. Each of its layers has the examples on axis 0 of its output.

    Returns:
        A tree that mirrors params. Each leaf has an axis of N examples before its own axes.

    Raises:
        LayerError: if a layer mixes examples, as batch norm does, or has no batch on axis 0.

    Example:
        >>> net, x = lf.dense(2), torch.ones(5, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> gradients(net, params, net.forward(params, x)[1], torch.ones(5, 2))
        Params(weight=float32[5, 3, 2], bias=float32[5, 2])
    """
    terms, count = network.terms_of("gradients", net, params, cache, g), network.examples_in(g)

    def each(p: Tensor, term: Term | Tensor) -> Tensor:
        if isinstance(term, Tensor):
            return term.expand(count, *term.shape)
        return forms.gradients(term, p)

    return cast_like(tree.map(each, params, terms), params)


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
    leaves: list[Term | Tensor] = [*tree.leaves(terms)]
    pairs = zip(tree.leaves(params), leaves, strict=True)
    each = [forms.gram(term, p) for p, term in pairs if isinstance(term, Term)]
    return reduce(torch.add, each, tree.leaves(g)[0].new_zeros(count, count))


def weighted_sum(
    net: Layer, params: Params, cache: Cache, g: Arrays, weights: Float[Tensor, " N"]
) -> Params:
    """Compute sum_n w_n d_n, the gradient in which each example has a weight.

    Returns:
        A tree that mirrors params. With weights of 1 it is `net.grads`.

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
        raise unexpected("weighted_sum", f"weights of shape ({count},)", got)
    return cast_like(network.sum_weighted(params, terms, weights), params)


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
    return cast_like(_second_moment(params, terms), params)


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

    return cast_like(tree.map(difference, _second_moment(params, terms), mean), params)


def _second_moment(params: Params, terms: Params) -> Params:
    return network.map_terms(lambda term, p: forms.square_sum(term, p) / term.count, params, terms)
