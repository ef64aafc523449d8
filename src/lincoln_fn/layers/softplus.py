"""Softplus: y = log(1 + e^(b x)) / b, element by element.

Derivation. With b = beta,

    dy/dx = e^(b x) / (1 + e^(b x)),    dx = g e^(b x) / (1 + e^(b x)).

e^(b x) overflows for large x, so where b x > threshold, y = x and dx = g. Past b x = 40 that is the
same number, since e^-40 is below the rounding of 40 even in float64; a higher threshold is taken as
40, which is the default. torch's default is 20: the same in float32, and wrong by 2e-9 in float64.

Cache: x, b and the threshold.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input

EXACT_PAST: Final = 40.0


@record
class Cache:
    """The input, the sharpness b, and the b x above which y = x."""

    x: Float[Tensor, "*s"]
    beta: float = static()
    threshold: float = static()


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, beta: float = 1.0, threshold: float = EXACT_PAST
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute y = log(1 + exp(beta x)) / beta.

    Args:
        params: ().
        x: of any shape.
        beta: how sharply y bends at 0.
        threshold: of beta x, above which y = x.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([0.0, 1e4]))[0]
        tensor([6.9315e-01, 1.0000e+04])
    """
    check_input("softplus", params, x)
    threshold = min(threshold, EXACT_PAST)
    y = torch.nn.functional.softplus(x, beta, threshold)
    return y, Cache(x, beta, threshold)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g where b x > threshold, else g exp(b x) / (1 + exp(b x)).

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), Cache(torch.tensor([0.0, 1e4]), 1, 40), torch.ones(2))[0]
        tensor([0.5000, 1.0000])
    """
    check_cache("softplus", cache, Cache)
    check_cotangent("softplus", g, cache.x)
    return torch.ops.aten.softplus_backward(g, cache.x, cache.beta, cache.threshold), ()
