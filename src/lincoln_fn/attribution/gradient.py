"""The gradient of an output with respect to the input, its product with it, and its means.

With F the explained output, the sensitivity of F to x_i is

    s_i = (dF)/(dx_i)

and the part of F that x_i accounts for, were F linear, is x_i s_i. SmoothGrad is the mean of s over
noisy copies of the input:

    s = 1/K sum_k (dF)/(dx)(x + sigma noise_k)    noise_k standard normal

sigma is a share of the range of x's values, example by example: noise (max x - min x).

Integrated gradients are the mean of s on the way from a baseline, times the way.

Derivation. F is the explained output, b the baseline, and x(t) = b + t (x - b) a straight line from
b to x. The chain rule gives the change of F along the line, and its integral:

    d/(dt) F(x(t)) = sum_i (dF)/(dx_i) (x_i - b_i)
    F(x) - F(b) = sum_i (x_i - b_i) int_0^1 (dF)/(dx_i)(x(t)) dt

The i-th term is x_i's attribution. The attributions sum to F(x) - F(b), which is called
completeness. The integral is computed by Gauss and Legendre's quadrature, and the gap is how much
the computed sum differs from F(x) - F(b).

A target picks one output of each example:

    int                       the class with this index, for all examples
    integer tensor            the class of each example, of y's shape without the classes' axis
    floating tensor           weights of y's shape: sum(weights * y) is explained
    None                      the class with the highest score

The classes are on axis 1 of the output, as for the losses, or on axis 0 of one with a single axis.
Networks are explained as they are after training, `inference(net)`, and by their true gradient,
without rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine import inference
from lincoln_fn.core import Arrays, Key, Layer, NonNegative, Params, PositiveInt, tree, unexpected
from lincoln_fn.rules.internal import with_true_gradient

Target: TypeAlias = int | Tensor | None


def gradient(net: Layer, params: Params, x: Arrays, target: Target = None) -> Arrays:
    """Compute the gradient of the explained output: s = dF/dx.

    Args:
        net: the network, which is explained as it is after training.
        x: its input, with the batch first.
        target: which output F is: a class for all examples, a class for each, weights of y's shape,
            or None for each example's highest score.

    Returns:
        s, which mirrors x; None for an entry that has no gradient, such as a mask.

    Source:
        Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2014.

    Example:
        >>> net, x = lf.dense(2), torch.ones(1, 3)
        >>> params = lf.layers.dense.Params(torch.tensor([[1.0, 4], [2, 5], [3, 6]]), None)
        >>> gradient(net, params, x, 0)
        tensor([[1., 2., 3.]])
    """
    net = at_inference("gradient", net, x)
    y, cache = net.forward(params, x)
    return net.input_grad(params, cache, explained_output("gradient", y, target))


def gradient_times_input(net: Layer, params: Params, x: Arrays, target: Target = None) -> Arrays:
    """Compute the product of the gradient and the input: x_i dF/dx_i.

    If F is linear, or its layers are ReLUs and layers without biases, the products sum to F.

    Source:
        Shrikumar, Greenside, Shcherbina and Kundaje, "Not Just a Black Box", 2016.

    Example:
        >>> net, x = lf.dense(2), torch.tensor([[1.0, 10, 100]])
        >>> params = lf.layers.dense.Params(torch.tensor([[1.0, 4], [2, 5], [3, 6]]), None)
        >>> gradient_times_input(net, params, x, 1)
        tensor([[  4.,  50., 600.]])
    """
    return product(gradient(net, params, x, target), x)


def smooth_grad(
    net: Layer,
    params: Params,
    x: Float[Tensor, "*x"],
    target: Target = None,
    *,
    key: Key,
    noise: float = 0.15,
    samples: int = 50,
) -> Float[Tensor, "*x"]:
    """Average the gradient of the explained output over noisy copies of x.

    Args:
        target: which output F is, as `gradient` takes it. None is the highest score at x.
        noise: the noise's standard deviation, as a share of max x - min x of each example.

    Source:
        Smilkov and others, "SmoothGrad: removing noise by adding noise", 2017.

    Example:
        >>> net, x = lf.tanh(), torch.tensor([[0.0, 1.0]])
        >>> smooth_grad(net, (), x, 0, key=lf.Key(0), noise=0.0, samples=2)
        tensor([[1., 0.]])
    """
    core.check_argument("smooth_grad", "key", Key, key)
    core.check_argument("smooth_grad", "samples", PositiveInt, samples)
    core.check_argument("smooth_grad", "noise", NonNegative, noise)
    net, y, g = _explained("smooth_grad", net, params, x, target)
    axes = tuple(range(min(1, y.ndim - 1), x.ndim))
    sigma = noise * (x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True))
    shape, near = tuple(x.shape), key.near(x)
    noises = (core.keys.normal(near.fold_in(k), shape, dtype=x.dtype) for k in range(samples))
    return _mean(net, params, g, ((1 / samples, x + sigma * drawn) for drawn in noises))


class IntegratedGradients(NamedTuple):
    """The attributions, and how much their sum differs from F(x) - F(baseline).

    Args:
        attribution: of x's shape.
        gap: sum of the attributions - (F(x) - F(baseline)), for each example.
    """

    attribution: Float[Tensor, "*x"]
    gap: Float[Tensor, " batch"]


def integrated_gradients(
    net: Layer,
    params: Params,
    x: Float[Tensor, "*x"],
    target: Target = None,
    *,
    baseline: Float[Tensor, "*broadcastable"] | None = None,
    steps: int = 50,
) -> IntegratedGradients:
    """Attribute F(x) - F(baseline) to the elements of x.

    Args:
        target: which output F is, as `gradient` takes it. None is the highest score at x.
        baseline: an input without information, which broadcasts to x; None is zeros.
        steps: the number of gradients on the way. The gap says whether they are enough.

    Source:
        Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.

    Example:
        >>> x = torch.tensor([[3.0, 4.0]])
        >>> attribution, gap = integrated_gradients(lf.tanh(), (), x, 1, steps=20)
        >>> (attribution - torch.tensor([[0.0, 4.0]]).tanh()).abs().max() < 1e-5
        tensor(True)
    """
    core.check_argument("integrated_gradients", "steps", PositiveInt, steps)
    net, y, g = _explained("integrated_gradients", net, params, x, target)
    start, wanted = torch.zeros_like(x), "a baseline that broadcasts to"
    if baseline is not None:
        start = expanded("integrated_gradients", wanted, baseline, x)
    nodes, weights = (each.tolist() for each in np.polynomial.legendre.leggauss(steps))
    pairs = zip(nodes, weights, strict=True)  # on [-1, 1]
    points = ((weight / 2, start + (node + 1) / 2 * (x - start)) for node, weight in pairs)
    attribution = (x - start) * _mean(net, params, g, points)
    change = g * (y - net.predict(params, start))
    sums = [each.flatten(1).sum(1) if y.ndim > 1 else each.sum() for each in (attribution, change)]
    return IntegratedGradients(attribution, sums[0] - sums[1])


def _explained(
    function: str, net: Layer, params: Params, x: Tensor, target: Target
) -> tuple[Layer, Tensor, Tensor]:
    net = at_inference(function, net, x)
    if not isinstance(x, Tensor):
        raise unexpected(function, "x to be one tensor", core.format_briefly(x))
    y = net.predict(params, x)
    return net, y, explained_output(function, y, target)


def _mean(
    net: Layer, params: Params, g: Tensor, points: Iterable[tuple[float, Tensor]]
) -> Float[Tensor, "*x"]:
    """Compute the mean of dF/dx over points of these weights."""
    runs = ((weight, net.forward(params, x)[1]) for weight, x in points)
    mean: Tensor = reduce(torch.add, (w * net.input_grad(params, c, g) for w, c in runs))
    return mean


def at_inference(function: str, net: Layer, x: Arrays) -> Layer:
    """Return the network to explain; x must be floating, for it gets the attribution."""
    core.check_argument(function, "net", Layer, net, ("net", "params", "x", "target"))
    if not any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in tree.leaves(x)):
        mend = "explain the part of the network behind its embedding, or use lrp"
        raise unexpected(function, "a floating x", core.format_briefly(x), mend)
    return with_true_gradient(inference(net))


def explained_output(function: str, y: Arrays, target: Target) -> Tensor:
    """Return g: 1 at the outputs that the target picks, or its weights."""
    if not isinstance(y, Tensor) or y.ndim == 0:
        raise unexpected(function, "a network with one output", core.format_briefly(y))
    if isinstance(target, Tensor) and target.is_floating_point():
        wanted = f"weights of shape {tuple(y.shape)}"
        core.require(target.shape == y.shape, function, wanted, tuple(target.shape))
        return target.to(y)
    axis = min(1, y.ndim - 1)
    index = _index(function, y, target, axis)
    return torch.zeros_like(y).scatter(axis, index.unsqueeze(axis), 1.0)


def _index(function: str, y: Tensor, target: object, axis: int) -> Tensor:
    shape = (*y.shape[:axis], *y.shape[axis + 1 :])
    if target is None:
        return y.argmax(axis)
    if isinstance(target, Tensor) and target.shape == shape:
        index = target.to(y.device).long()
    elif type(target) is int:
        index = torch.full(shape, target, device=y.device)
    else:
        wanted = f"a class, or integer classes of shape {shape}, or weights of {tuple(y.shape)}"
        raise unexpected(function, f"target to be {wanted}", core.format_briefly(target))
    classes = y.shape[axis]
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < classes:
        got = f"{int(index.min())} to {int(index.max())}"
        raise unexpected(function, f"classes from 0 to {classes - 1}", got)
    return index


def product(first: Arrays, second: Arrays) -> Arrays:
    """Multiply two trees of tensors, leaf by leaf; None where one of them has None."""
    if isinstance(first, tuple) and isinstance(second, tuple):
        return tuple(product(a, b) for a, b in zip(first, second, strict=True))
    return None if first is None or second is None else first * second


def expanded(where: str, wanted: str, value: object, x: Tensor) -> Tensor:
    """Give a number or a tensor the shape, the dtype and the device of x."""
    try:
        return torch.as_tensor(value).to(x).expand(x.shape)
    except (RuntimeError, TypeError, ValueError) as error:
        raise unexpected(where, f"{wanted} {tuple(x.shape)}", core.format_briefly(value)) from error
