"""Rules for dense layers and convolutions, by what x_i and W_ij contribute to y_j.

W+ and W- are the positive and the negative part of W, and x+ and x- those of x. The positive
contributions are x+ W+ + x- W-, and the negative ones x+ W- + x- W+. The bias contributes, too: its
positive part to the first, its negative part to the second. It takes its share of the relevance, so
a layer with a bias does not conserve all of it, unless `zero_bias` leaves the bias out.

    epsilon:       z = x W + b
    z_plus:        z = x+ W+ + x- W- + b+
    alpha_beta:    alpha (z_plus's share) - beta (the negative contributions' share)
    gamma:         z = x+ (W + gamma W+) + x- (W + gamma W-) + b + gamma b+    where y > 0
                   z = x+ (W + gamma W-) + x- (W + gamma W+) + b + gamma b-    where y < 0

The others are for the first layer, whose input is not the output of a ReLU. z_box is for inputs
between two bounds, such as pixels. The last two do not look at x.

    z_box:         z_ij = x_i W_ij - low_i W+_ij - high_i W-_ij
    w_square:      z_ij = W_ij^2
    flat:          z_ij = 1, if x_i enters y_j

Each z is a sum of terms, which are the layer's own output for some x and some W.

Sources: Bach and others, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
Layer-Wise Relevance Propagation", 2015 (epsilon, alpha_beta); Montavon and others, "Explaining
nonlinear classification decisions with deep Taylor decomposition", 2017 (z_plus, z_box, w_square);
Montavon and others, "Layer-Wise Relevance Propagation: An Overview", 2019 (gamma); Andéol and
others, "Learning Domain Invariant Representations by Joint Wasserstein Distance Minimization", 2021
(gamma for negative x); Lapuschkin and others, "Unmasking Clever Hans predictors and assessing what
machines really learn", 2019 (flat). Names and defaults are zennit's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.attribution.gradient import expanded
from lincoln_fn.attribution.rules.any_layer import Change, Rule, Use, by_terms, changed, one_input
from lincoln_fn.core import Arrays, NonNegative, Shown, bare, constructor


@constructor
def epsilon(epsilon: Shown[NonNegative] = 1e-6, *, zero_bias: bool = False) -> Rule:
    """Share in proportion to x_i W_ij: z = x W + b.

    It is gradient times input for one layer. A larger epsilon absorbs relevance where z is small,
    which leaves out weak and contradictory contributions.

    Args:
        epsilon: is added to |z|; 0 conserves relevance exactly.
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        return by_terms(use, relevance, epsilon, (use.x, changed(use, lambda p: p, zero_bias)))

    return bare(Rule, propagate)


@constructor
def z_plus(stabilizer: NonNegative = 1e-6, *, zero_bias: bool = False) -> Rule:
    """Share in proportion to the positive contributions only."""

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        return _by_signs(use, relevance, stabilizer, _positive, _negative, zero_bias)

    return bare(Rule, propagate)


@constructor
def alpha_beta(
    alpha: Shown[NonNegative] = 2.0,
    beta: Shown[NonNegative] = 1.0,
    stabilizer: NonNegative = 1e-6,
    *,
    zero_bias: bool = False,
) -> Rule:
    """Share alpha R to the positive contributions, and -beta R to the negative ones.

    alpha - beta must be 1, so that relevance is conserved.
    """
    core.require(alpha - beta == 1, "alpha_beta", "alpha - beta = 1", (alpha, beta))

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        plus = _by_signs(use, relevance, stabilizer, _positive, _negative, zero_bias)
        minus = _by_signs(use, relevance, stabilizer, _negative, _positive, zero_bias)
        return alpha * plus - beta * minus

    return bare(Rule, propagate)


@constructor
def gamma(
    gamma: Shown[NonNegative] = 0.25, stabilizer: NonNegative = 1e-6, *, zero_bias: bool = False
) -> Rule:
    """Share in proportion to x_i W_ij, with those of y's sign times 1 + gamma.

    Args:
        gamma: how much more they count. With 0 it is the rule `epsilon`; the larger it is, the less
            the contributions of the other sign count.
    """

    def more_positive(p: Tensor) -> Tensor:
        return p + gamma * _positive(p)

    def more_negative(p: Tensor) -> Tensor:
        return p + gamma * _negative(p)

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        above, below = (use.y > 0) * relevance, (use.y < 0) * relevance
        plus = _by_signs(use, above, stabilizer, more_positive, more_negative, zero_bias)
        return plus + _by_signs(use, below, stabilizer, more_negative, more_positive, zero_bias)

    return bare(Rule, propagate)


@core.checked
def z_box(low: float | Tensor, high: float | Tensor, stabilizer: NonNegative = 1e-6) -> Rule:
    """Share in proportion to x_i W_ij, less the least that a bounded x_i can contribute.

    Args:
        low: the smallest value that x_i can have: a number, or a tensor that broadcasts to x.
        high: the largest value.
    """
    if not isinstance(low, Tensor) and not isinstance(high, Tensor):
        core.require(low <= high, "z_box", "low up to high", (low, high))

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        x = one_input(use)
        below = expanded("z_box", "low to broadcast to x,", low, x)
        above = expanded("z_box", "high to broadcast to x,", high, x)
        of_low = below, changed(use, lambda p: -_positive(p))
        of_high = above, changed(use, lambda p: -_negative(p))
        return by_terms(use, relevance, stabilizer, (x, use.params), of_low, of_high)

    shown = [
        core.format_briefly(each) if isinstance(each, Tensor) else each for each in (low, high)
    ]
    return Rule(f"z_box({shown[0]}, {shown[1]})", propagate)


@constructor
def w_square(stabilizer: NonNegative = 1e-6, *, zero_bias: bool = False) -> Rule:
    """Share in proportion to the squared weights.

    Args:
        zero_bias: whether the bias, whose square counts, is left out of z.
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        term = torch.ones_like(one_input(use)), changed(use, torch.square, zero_bias)
        return by_terms(use, relevance, stabilizer, term)

    return bare(Rule, propagate)


@constructor
def flat(stabilizer: NonNegative = 1e-6) -> Rule:
    """Share equally among all x_i that enter y_j."""

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        term = torch.ones_like(one_input(use)), changed(use, torch.ones_like, zero_bias=True)
        return by_terms(use, relevance, stabilizer, term)

    return bare(Rule, propagate)


def _positive(p: Tensor) -> Tensor:
    return p.clamp(min=0)


def _negative(p: Tensor) -> Tensor:
    return p.clamp(max=0)


def _by_signs(
    use: Use, relevance: Tensor, stabilizer: float, above: Change, below: Change, zero_bias: bool
) -> Tensor:
    """Share by z = x+ V + x- U + c: V, c are the params changed for positive x, U for negative."""
    x = one_input(use)
    of_positive = _positive(x), changed(use, above, zero_bias)
    of_negative = _negative(x), changed(use, below, zero_bias=True)
    result: Tensor = by_terms(use, relevance, stabilizer, of_positive, of_negative)
    return result
