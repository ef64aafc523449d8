"""Rules for the first layer, whose input is not the output of a ReLU.

    z_box:       z_ij = x_i W_ij - low_i W+_ij - high_i W-_ij
    w_square:    z_ij = W_ij^2
    flat:        z_ij = 1, if x_i enters y_j

z_box is for inputs between two bounds, such as pixels. The other two do not look at x.

Sources: Montavon and others, "Explaining nonlinear classification decisions with deep Taylor
decomposition", 2017 (z_box, w_square); Lapuschkin and others, "Unmasking Clever Hans predictors and
assessing what machines really learn", 2019 (flat). Names and defaults are zennit's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.attribution.rules.rule import Rule, Use, changed, evaluated, one_input, share
from lincoln_fn.core import Arrays, LayerError, NonNegative, bare, constructor, format_briefly


@core.checked
def z_box(low: float | Tensor, high: float | Tensor, stabilizer: NonNegative = 1e-6) -> Rule:
    """Share in proportion to x_i W_ij, less the least that a bounded x_i can contribute.

    Args:
        low: the smallest value that x_i can have: a number, or a tensor that broadcasts to x.
        high: the largest value.
        stabilizer: is added to |z|.

    Raises:
        LayerError: if low is above high; from the walk, if one does not broadcast to x.

    Example:
        >>> z_box(0.0, 1.0)
        z_box(0.0, 1.0)
    """
    if not isinstance(low, Tensor) and not isinstance(high, Tensor):
        core.require(low <= high, "z_box", "low up to high", (low, high))

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        x = one_input("z_box", use)
        inputs = x, _bound("low", low, x), _bound("high", high, x)
        params = (
            use.params,
            changed(use.params, lambda p: p.clamp(min=0)),
            changed(use.params, lambda p: p.clamp(max=0)),
        )
        (z, pull), (z_low, pull_low), (z_high, pull_high) = (
            evaluated(use, *pair) for pair in zip(inputs, params, strict=True)
        )
        s = share(relevance, z - z_low - z_high, stabilizer)
        return inputs[0] * pull(s) - inputs[1] * pull_low(s) - inputs[2] * pull_high(s)

    bounds = (
        value if not isinstance(value, Tensor) else format_briefly(value) for value in (low, high)
    )
    name = ", ".join(map(str, bounds))
    return Rule(f"z_box({name})", propagate)


@constructor
def w_square(stabilizer: NonNegative = 1e-6, *, zero_bias: bool = False) -> Rule:
    """Share in proportion to the squared weights.

    Args:
        stabilizer: is added to |z|.
        zero_bias: whether the bias, whose square counts, is left out of z.

    Example:
        >>> w_square()
        w_square()
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        ones = torch.ones_like(one_input("w_square", use))
        z, pull = evaluated(use, ones, changed(use.params, torch.square, zero_bias=zero_bias))
        return pull(share(relevance, z, stabilizer))

    return bare(Rule, propagate)


@constructor
def flat(stabilizer: NonNegative = 1e-6) -> Rule:
    """Share equally among all x_i that enter y_j.

    Args:
        stabilizer: is added to their number.

    Example:
        >>> flat()
        flat()
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        ones = torch.ones_like(one_input("flat", use))
        z, pull = evaluated(use, ones, changed(use.params, torch.ones_like, zero_bias=True))
        return pull(share(relevance, z, stabilizer))

    return bare(Rule, propagate)


def _bound(name: str, value: float | Tensor, x: Tensor) -> Tensor:
    try:
        return torch.as_tensor(value).to(x).expand(x.shape)
    except RuntimeError as error:
        problem = (
            f"expected {name} to broadcast to x, {tuple(x.shape)}, got {format_briefly(value)}"
        )
        raise LayerError("z_box", problem) from error
