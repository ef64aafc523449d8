"""Rules for dense layers and convolutions, by the signs of the contributions x_i W_ij.

W+ and W- are the positive and the negative part of W, and x+ and x- those of x. The positive
contributions are x+ W+ + x- W-, and the negative ones x+ W- + x- W+. The bias contributes, too: its
positive part to the first, its negative part to the second. It takes its share of the relevance, so
a layer with a bias does not conserve all of it, unless `zero_bias` leaves the bias out.

    epsilon:       z = x W + b
    z_plus:        z = x+ W+ + x- W- + b+
    alpha_beta:    alpha (z_plus's share) - beta (the negative contributions' share)
    gamma:         z = x+ (W + gamma W+) + x- (W + gamma W-) + b + gamma b+    where y > 0
                   z = x+ (W + gamma W-) + x- (W + gamma W+) + b + gamma b-    where y < 0

Sources: Bach and others, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
Layer-Wise Relevance Propagation", 2015 (epsilon, alpha_beta); Montavon and others, "Explaining
nonlinear classification decisions with deep Taylor decomposition", 2017 (z_plus); Montavon and
others, "Layer-Wise Relevance Propagation: An Overview", 2019 (gamma); Andéol and others, "Learning
Domain Invariant Representations by Joint Wasserstein Distance Minimization", 2021 (gamma for
negative x). Names and defaults are zennit's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from lincoln_fn.attribution._explained import product
from lincoln_fn.attribution.rules.rule import Rule, Use, changed, evaluated, one_input, share
from lincoln_fn.core import Arrays, NonNegative, Shown, bare, constructor, require

Change: TypeAlias = Callable[[Tensor], Tensor]


@constructor
def epsilon(epsilon: Shown[NonNegative] = 1e-6, *, zero_bias: bool = False) -> Rule:
    """Share in proportion to x_i W_ij: z = x W + b.

    It is gradient times input for one layer. A larger epsilon absorbs relevance where z is small,
    which leaves out weak and contradictory contributions.

    Args:
        epsilon: is added to |z|; 0 conserves relevance exactly.
        zero_bias: whether the bias is left out of z.

    Example:
        >>> epsilon(0.25)
        epsilon(0.25)
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        params = changed(use.params, lambda p: p, zero_bias=zero_bias)
        z, pull = evaluated(use, use.x, params)
        return product(use.x, pull(share(relevance, z, epsilon)))

    return bare(Rule, propagate)


@constructor
def z_plus(stabilizer: NonNegative = 1e-6, *, zero_bias: bool = False) -> Rule:
    """Share in proportion to the positive contributions only.

    Args:
        stabilizer: is added to |z|.
        zero_bias: whether the bias is left out of z.

    Example:
        >>> z_plus()
        z_plus()
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        return _signed("z_plus", use, relevance, _positive, _negative, stabilizer, zero_bias)

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

    Args:
        alpha: the weight of the positive contributions.
        beta: that of the negative ones; alpha - beta = 1, so that relevance is conserved.
        stabilizer: is added to |z| of both.
        zero_bias: whether the bias is left out of z.

    Raises:
        LayerError: if alpha - beta is not 1.

    Example:
        >>> alpha_beta(1, 0)
        alpha_beta(1, 0)
    """
    require(alpha - beta == 1, "alpha_beta", "alpha - beta = 1", (alpha, beta))

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        plus = _signed("alpha_beta", use, relevance, _positive, _negative, stabilizer, zero_bias)
        minus = _signed("alpha_beta", use, relevance, _negative, _positive, stabilizer, zero_bias)
        return alpha * plus - beta * minus

    return bare(Rule, propagate)


@constructor
def gamma(
    gamma: Shown[NonNegative] = 0.25,
    stabilizer: NonNegative = 1e-6,
    *,
    zero_bias: bool = False,
) -> Rule:
    """Share in proportion to x_i W_ij, with those of y's sign times 1 + gamma.

    Args:
        gamma: how much more they count. With 0 it is the rule `epsilon`; the larger it is, the less
            the contributions of the other sign count.
        stabilizer: is added to |z|.
        zero_bias: whether the bias is left out of z.

    Example:
        >>> gamma(0.1)
        gamma(0.1)
    """

    def more_positive(p: Tensor) -> Tensor:
        return p + gamma * p.clamp(min=0)

    def more_negative(p: Tensor) -> Tensor:
        return p + gamma * p.clamp(max=0)

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        above, below = (use.y > 0) * relevance, (use.y < 0) * relevance
        changes = more_positive, more_negative
        plus = _signed("gamma", use, above, *changes, stabilizer, zero_bias)
        minus = _signed("gamma", use, below, *changes[::-1], stabilizer, zero_bias)
        return plus + minus

    return bare(Rule, propagate)


def _positive(p: Tensor) -> Tensor:
    return p.clamp(min=0)


def _negative(p: Tensor) -> Tensor:
    return p.clamp(max=0)


def _signed(
    rule: str,
    use: Use,
    relevance: Tensor,
    for_positive: Change,
    for_negative: Change,
    stabilizer: float,
    zero_bias: bool,
) -> Tensor:
    """Share by z = x+ V + x- U + c: V, c are the params changed for positive x, U for negative."""
    x = one_input(rule, use)
    above, below = x.clamp(min=0), x.clamp(max=0)
    first, pull_first = evaluated(
        use, above, changed(use.params, for_positive, zero_bias=zero_bias)
    )
    second, pull_second = evaluated(use, below, changed(use.params, for_negative, zero_bias=True))
    s = share(relevance, first + second, stabilizer)
    result: Tensor = above * pull_first(s) + below * pull_second(s)
    return result
