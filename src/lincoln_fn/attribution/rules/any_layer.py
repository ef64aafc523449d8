"""What a rule of relevance propagation is, and the rules for any layer and for linear ones.

A rule takes one use of a layer and the relevance R of its output y, and returns the relevance of
its input x. It shares R_j out to the x_i in proportion to their contributions z_ij to y_j:

    R_i = sum_j z_(ij) / (sum_n z_(nj)) R_j

Derivation. Most rules take contributions x_i W_ij of a linear map with some weights W. With
s_j = R_j / sum_n z_nj, the sum over j is the map's own backward, applied to s:

    R_i = x_i sum_j W_(ij) s_j = x_i "input_grad"(s)_i

So a rule calls the layer's own `forward` and `input_grad` with other params, and holds for dense
layers and all convolutions. If z is a sum of such terms, so is R_i.

These rules need nothing but the two functions:

    pass_:       R_i = R_i                                        for element-by-element functions
    gradient:    R_i = sum_j (dy_j)/(dx_i) R_j                    where each y_j is one x_i
    norm:        R_i = x_i sum_j (dy_j)/(dx_i) R_j / y_j          for sums and means
    split:       R_i = 1/n x_i sum_j (dy_j)/(dx_i) R_j / y_j      for products of n inputs

Derivation of the last two. If y is a linear function of x, x_i dy_j/dx_i is the contribution of x_i
to y_j. In a product of n inputs, each contributes the whole of y_j, and so gets an n-th of R_j.

The other rules are for dense layers and convolutions, by what x_i and W_ij contribute to y_j.

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

Sources: zennit (pass_, norm, and the names and defaults); Achtibat and others, "AttnLRP:
Attention-Aware Layer-Wise Relevance Propagation for Transformers", ICML 2024 (split, its uniform
rule; norm for softmax, where it is their equation R_i = x_i (R_i - y_i sum_j R_j)); Bach and
others, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance
Propagation", 2015 (epsilon, alpha_beta); Montavon and others, "Explaining nonlinear classification
decisions with deep Taylor decomposition", 2017 (z_plus, z_box, w_square); Montavon and others,
"Layer-Wise Relevance Propagation: An Overview", 2019 (gamma); Andéol and others, "Learning Domain
Invariant Representations by Joint Wasserstein Distance Minimization", 2021 (gamma for negative x);
Lapuschkin and others, "Unmasking Clever Hans predictors and assessing what machines really learn",
2019 (flat).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.attribution.gradient import expanded, product
from lincoln_fn.core import Arrays, Cache, Layer, NonNegative, Params, Shown, bare, constructor


@attrs.frozen(eq=False)
class Use:
    """One use of a single layer, as the forward walk recorded it."""

    layer: Layer
    params: Params
    x: Arrays
    y: Arrays
    cache: Cache


@attrs.frozen(eq=False, repr=False)
class Rule(core.Made):
    """A rule of relevance propagation.

    Args:
        name: the code that makes the rule, such as "gamma(0.25)"; its repr.
        propagate: (use, R) -> R of x, as the module says. R has y's structure, and the result has
            x's, with None for entries without relevance.

    Example:
        >>> Rule("nothing()", lambda use, relevance: torch.zeros_like(use.x))
        nothing()
    """

    name: str
    propagate: Callable[[Use, Arrays], Arrays]


def share(relevance: Tensor, total: Tensor, epsilon: float) -> Tensor:
    """Compute s = R / (z + epsilon sign(z)), with sign(0) = 1; 0 where the denominator is 0."""
    total = total + epsilon * torch.where(total < 0, -1.0, 1.0).to(total)
    return torch.where(total == 0, 0.0, relevance / torch.where(total == 0, 1.0, total))


Change: TypeAlias = Callable[[Tensor], Tensor]


def by_terms(
    use: Use, relevance: Arrays, stabilizer: float, *terms: tuple[Arrays, Params]
) -> Arrays:
    """Share by z, a sum of terms, each the layer's output for an x and params."""
    runs = [(x, params, *use.layer.forward(params, x)) for x, params in terms]
    s = share(relevance, reduce(torch.add, [z for _, _, z, _ in runs]), stabilizer)
    parts = [product(x, use.layer.input_grad(params, cache, s)) for x, params, _, cache in runs]
    return reduce(torch.add, parts)


def changed(use: Use, change: Change, zero_bias: bool = False) -> Params:
    """Change a layer's weights and biases, and make the bias 0 if asked to."""
    params = core.tree.map(change, use.params)
    bias = getattr(params, "bias", None)
    if not zero_bias or bias is None:
        return params
    return core.evolve(params, bias=torch.zeros_like(bias))


def one_input(use: Use) -> Tensor:
    """Return x of a layer that has one floating input."""
    if not isinstance(use.x, Tensor) or not use.x.is_floating_point():
        expected = "a layer with one floating input"
        mend = "its rule is for dense layers and convolutions"
        raise core.unexpected(use.layer.name, expected, core.format_briefly(use.x), mend)
    return use.x


def pass_() -> Rule:
    """Pass the relevance of y on to x, which has the same shape.

    Example:
        >>> pass_()
        pass_()
    """
    return Rule("pass_()", lambda use, relevance: relevance)


def gradient() -> Rule:
    """Move relevance as the layer's backward moves a gradient.

    It conserves relevance where each element of y is an element of x: in max-pooling, whose largest
    element gets all, and in layers that only move elements.

    Example:
        >>> gradient()
        gradient()
    """
    return Rule("gradient()", _pulled)


def _pulled(use: Use, relevance: Arrays) -> Arrays:
    return use.layer.input_grad(use.params, use.cache, relevance)


@constructor
def norm(stabilizer: NonNegative = 1e-6) -> Rule:
    """Share in proportion to the contributions to a sum or a mean.

    In a residual connection, y = f(x) + x, each of the two gets its part of R, so it is conserved.

    Example:
        >>> norm()
        norm()
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        return product(use.x, _pulled(use, share(relevance, use.y, stabilizer)))

    return bare(Rule, propagate)


@constructor
def split(stabilizer: NonNegative = 1e-6) -> Rule:
    """Share equally among the factors of a product.

    Example:
        >>> split()
        split()
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        return product(use.x, _pulled(use, share(relevance, use.y, stabilizer) / len(use.x)))

    return bare(Rule, propagate)


def nothing() -> Rule:
    """Give no relevance to x, for an embedding, whose x are indices.

    The relevance of the embedding's output is that of the indices.

    Example:
        >>> nothing()
        nothing()
    """
    return Rule("nothing()", lambda use, relevance: None)


@constructor
def signal(stabilizer: NonNegative = 1e-6) -> Rule:
    """Give all relevance of a gated layer to its signal, and none to its gates.

    In a gated linear unit, y = a s(b), the signal is a. The recurrences `linear_scan`,
    `selective_scan`, `gated_linear_recurrence` and `linear_attention` are sums of their signal and
    their first state, with factors that depend on the gates; the factors count as constants.

    Source:
        Arras and others, "Explaining Recurrent Neural Network Predictions in Sentiment Analysis",
        2017; Jafari and others, "MambaLRP", 2024.

    Example:
        >>> signal()
        signal()
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        if not isinstance(use.x, tuple):
            return torch.cat([relevance, torch.zeros_like(relevance)], use.cache.dim)
        shares = core.tree.map(partial(share, epsilon=stabilizer), relevance, use.y)
        of_x = product(use.x, _pulled(use, shares))
        is_signal = (i in use.cache.signals for i in range(len(of_x)))
        return tuple(
            entry if own or entry is None else torch.zeros_like(entry)
            for entry, own in zip(of_x, is_signal, strict=True)
        )

    return bare(Rule, propagate)


@constructor
def epsilon(epsilon: Shown[NonNegative] = 1e-6, *, zero_bias: bool = False) -> Rule:
    """Share in proportion to x_i W_ij: z = x W + b.

    It is gradient times input for one layer. A larger epsilon absorbs relevance where z is small,
    which leaves out weak and contradictory contributions.

    Args:
        epsilon: is added to |z|; 0 conserves relevance exactly.

    Example:
        >>> epsilon(0.25)
        epsilon(0.25)
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        return by_terms(use, relevance, epsilon, (use.x, changed(use, lambda p: p, zero_bias)))

    return bare(Rule, propagate)


@constructor
def z_plus(stabilizer: NonNegative = 1e-6, *, zero_bias: bool = False) -> Rule:
    """Share in proportion to the positive contributions only.

    Example:
        >>> z_plus()
        z_plus()
    """

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

    Example:
        >>> alpha_beta(1, 0)
        alpha_beta(1, 0)
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

    Example:
        >>> gamma(0.1)
        gamma(0.1)
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

    Example:
        >>> z_box(0.0, 1.0)
        z_box(0.0, 1.0)
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

    Example:
        >>> w_square()
        w_square()
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        term = torch.ones_like(one_input(use)), changed(use, torch.square, zero_bias)
        return by_terms(use, relevance, stabilizer, term)

    return bare(Rule, propagate)


@constructor
def flat(stabilizer: NonNegative = 1e-6) -> Rule:
    """Share equally among all x_i that enter y_j.

    Example:
        >>> flat()
        flat()
    """

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
