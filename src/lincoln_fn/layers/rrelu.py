"""Randomized leaky rectified linear unit: y = max(x, 0) + a min(x, 0), each slope a drawn anew.

Derivation. a is uniform in [lower, upper), one for each element, and does not depend on x. For
x > 0, y = x and dy/dx = 1; for x < 0, y = a x and dy/dx = a. At x = 0 there is no derivative, and a
is taken, as torch does. With slope = 1 where x > 0, else a,

    y = x slope,    dx = g slope.

`predict` takes a = (lower + upper) / 2. The key stands in params, as a state: `forward` with the
same params draws the same slopes, and `advance` returns params with the next key, key.fold_in(0).
Cache: slope (Xu, Wang, Chen and Li, "Empirical Evaluation of Rectified Activations in Convolutional
Network", 2015).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import keys
from lincoln_fn.keys import Key
from lincoln_fn.record import record
from lincoln_fn.shapes import check_cotangent, check_input, check_params


@record
class Params:
    """The key that the next slopes are drawn from; nothing that is trained."""

    key: Key


def init(key: Key, x: Float[Tensor, "*s"]) -> Params:
    """Make the key of the first slopes.

    Args:
        key: what it is made from.
        x: an example input, of which only the device counts.

    Returns:
        The parameters, on x's device.

    Raises:
        LayerError: if x is not a floating tensor.
    """
    check_input("rrelu", (), x)
    return Params(key.near(x))


def forward(
    params: Params, x: Float[Tensor, "*s"], *, lower: float = 1 / 8, upper: float = 1 / 3
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y = x slope, with slope = 1 where x > 0, else drawn from the key.

    Args:
        params: the key.
        x: of any shape.
        lower: the smallest slope for x < 0.
        upper: the bound above it.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> y, slope = forward(Params(Key(0)), torch.tensor([-1.0, 2.0]), lower=0.5, upper=0.5)
        >>> y, slope
        (tensor([-0.5000,  2.0000]), tensor([0.5000, 1.0000]))
    """
    check_input("rrelu", params, x, Params)
    key = params.key.near(x)
    drawn = keys.uniform(key, tuple(x.shape), lower, upper, x.dtype).to(x.device)
    slope = torch.where(x > 0, 1, drawn)
    return x * slope, slope


def backward(
    params: Params, cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Params]:
    """Compute dx = g slope.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and params, whose key has no gradient.

    Raises:
        LayerError: if g does not mirror y, or params or the cache are another layer's.

    Example:
        >>> backward(Params(Key(0)), torch.tensor([0.5, 1.0]), torch.tensor([6.0, 7.0]))[0]
        tensor([3., 7.])
    """
    check_params("rrelu", params, Params)
    check_cotangent("rrelu", g, cache)
    return g * cache, params


def predict(
    params: Params, x: Float[Tensor, "*s"], *, lower: float = 1 / 8, upper: float = 1 / 3
) -> Float[Tensor, "*s"]:
    """Compute y with the mean slope, (lower + upper) / 2.

    Args:
        params: the key, unused.
        x: of any shape.
        lower: as `forward` takes it.
        upper: as `forward` takes it.

    Returns:
        y of x's shape.

    Raises:
        LayerError: as `forward` does.

    Example:
        >>> predict(Params(Key(0)), torch.tensor([-1.0, 2.0]), lower=0.25, upper=0.75)
        tensor([-0.5000,  2.0000])
    """
    check_input("rrelu", params, x, Params)
    return torch.nn.functional.leaky_relu(x, (lower + upper) / 2)


def advance(params: Params, cache: Float[Tensor, "*s"]) -> Params:
    """Move on to the next slopes' key, key.fold_in(0).

    Args:
        params: those given to `forward`.
        cache: ignored.

    Returns:
        Params with the next key.

    Example:
        >>> advance(Params(Key(0)), torch.ones(1)).key.bits == Key(0).fold_in(0).bits
        tensor(True)
    """
    check_params("rrelu", params, Params)
    return Params(params.key.fold_in(0))
