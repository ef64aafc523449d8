"""SmoothGrad: the gradient's mean over noisy copies of the input.

    s = 1/K sum_k (dF)/(dx)(x + sigma noise_k)    noise_k standard normal

sigma is a share of the range of x's values, example by example: noise (max x - min x).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.attribution._explained import Target, at_inference, explained_output
from lincoln_fn.core import Key, Layer, LayerError, Params, PositiveInt, check_argument, keys


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
        net: the network, which is explained as it is after training.
        x: its input, with the batch first.
        target: which output F is, as `gradient` takes it. None is the highest score at x.
        key: draws the noise.
        noise: the noise's standard deviation, as a share of max x - min x of each example.
        samples: how many noisy copies.

    Returns:
        The mean gradient, of x's shape.

    Raises:
        LayerError: if samples is below 1, or noise below 0; as `gradient` does.

    Source:
        Smilkov, Thorat, Kim, Viégas and Wattenberg, "SmoothGrad: removing noise by adding noise",
        2017.

    Example:
        >>> net, x = lf.tanh(), torch.tensor([[0.0, 1.0]])
        >>> smooth_grad(net, (), x, 0, key=lf.Key(0), noise=0.0, samples=2)
        tensor([[1., 0.]])
    """
    name = "smooth_grad"
    net = at_inference(name, net, x)
    check_argument(name, "key", Key, key)
    check_argument(name, "samples", PositiveInt, samples)
    if not isinstance(x, Tensor):
        raise LayerError(name, f"expected x to be one tensor, got {core.format_briefly(x)}")
    if not isinstance(noise, int | float) or not noise >= 0:
        raise LayerError(name, f"expected noise of at least 0, got {noise!r}")
    y = net.predict(params, x)
    g = explained_output(name, y, target)
    axes = tuple(range(min(1, y.ndim - 1), x.ndim))
    sigma = noise * (x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True))
    total = torch.zeros_like(x)
    for sample in range(samples):
        drawn = keys.normal(key.near(x).fold_in(sample), tuple(x.shape), dtype=x.dtype)
        _, cache = net.forward(params, x + sigma * drawn)
        total = total + net.input_grad(params, cache, g)
    return total / samples
