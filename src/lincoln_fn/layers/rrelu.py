"""Randomized leaky rectified linear unit: y = x for x > 0, else r x, with a random slope r.

Derivation. r is uniform in [lower, upper), one for each element, and does not depend on x. At x = 0
there is no derivative, and r is used, as in torch. With slope = 1 where x > 0, else r,

    y = x slope
    dx = g slope

`predict` takes r = (lower + upper) / 2. Params, with the key, and `advance` are those of dropout:
`forward` with the same params draws the same slopes.

Cache: slope.
"""

from __future__ import annotations

import torch
from torch.nn.functional import leaky_relu

from lincoln_fn.core import Elements, Key, Layer, bare, constructor, declare, keys, require
from lincoln_fn.layers.dropout import Params, advance


def init(key: Key, x: Elements) -> Params:
    """Make the key of the first slopes."""
    return Params(key)


def forward(
    params: Params, x: Elements, *, lower: float, upper: float
) -> tuple[Elements, Elements]:
    """Compute y = x slope, with slope = 1 where x > 0, else drawn from the key."""
    r = keys.uniform(params.key.near(x), tuple(x.shape), lower, upper, x.dtype).to(x.device)
    slope = torch.where(x > 0, 1, r)
    return x * slope, slope


def backward(params: Params, slope: Elements, g: Elements) -> tuple[Elements, Params]:
    """Compute dx = g slope."""
    return g * slope, params


def predict(params: Params, x: Elements, *, lower: float, upper: float) -> Elements:
    """Compute y with the mean slope, r = (lower + upper) / 2."""
    return leaky_relu(x, (lower + upper) / 2)


def inference_forward(
    params: Params, x: Elements, *, lower: float = 1 / 8, upper: float = 1 / 3
) -> tuple[Elements, Elements]:
    """Compute y = x slope, with slope = 1 where x > 0, else the mean."""
    slope = torch.where(x > 0, 1.0, x.new_full((), (lower + upper) / 2))
    return predict(params, x, lower=lower, upper=upper), slope


declare(predict, kind="activation", at_inference=(inference_forward, backward))


@constructor(kind="activation")
def rrelu(lower: float = 1 / 8, upper: float = 1 / 3) -> Layer:
    """Keep what is positive, and scale the rest by slopes that are drawn again at every step.

    Slopes are uniform in [lower, upper); `predict` uses the mean of both. Source: Xu, Wang, Chen
    and Li, "Empirical Evaluation of Rectified Activations in Convolutional Network", 2015.

    Example:
        >>> layer = rrelu(0.25, 0.75)
        >>> layer.predict(layer.init(Key(0), torch.zeros(2)), torch.tensor([-1.0, 2.0]))
        tensor([-0.5000,  2.0000])
    """
    require(lower <= upper, "rrelu", "lower at most upper", (lower, upper))
    return bare(Layer, forward, backward, init, predict=predict, advance=advance)
