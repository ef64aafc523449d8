"""What a rule of relevance propagation is, and the rules that serve any layer.

A rule takes one use of a layer and the relevance R of its output y, and returns the relevance of
its input x. It shares R_j out to the x_i in proportion to their contributions z_ij to y_j:

    R_i = sum_j z_(ij) / (sum_n z_(nj)) R_j

Derivation. Most rules take contributions x_i W_ij of a linear map with some weights W. With
s_j = R_j / sum_n z_nj, the sum over j is the map's own backward, applied to s:

    R_i = x_i sum_j W_(ij) s_j = x_i "input_grad"(s)_i

So a rule calls the layer's own `forward` and `input_grad` with other params, and holds for dense
layers and all convolutions. If z is a sum of such terms, so is R_i.

The rules of this file need nothing but these two functions:

    pass_:       R_i = R_i                                        for element-by-element functions
    gradient:    R_i = sum_j (dy_j)/(dx_i) R_j                    where each y_j is one x_i
    norm:        R_i = x_i sum_j (dy_j)/(dx_i) R_j / y_j          for sums and means
    split:       R_i = 1/n x_i sum_j (dy_j)/(dx_i) R_j / y_j      for products of n inputs

Derivation of the last two. If y is a linear function of x, x_i dy_j/dx_i is the contribution of x_i
to y_j. In a product of n inputs, each contributes the whole of y_j, and so gets an n-th of R_j.

Sources: zennit (pass_, norm); Achtibat and others, "AttnLRP: Attention-Aware Layer-Wise Relevance
Propagation for Transformers", ICML 2024 (split, its uniform rule; norm for softmax, where it is
their equation R_i = x_i (R_i - y_i sum_j R_j)).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.attribution.gradient import product
from lincoln_fn.core import Arrays, Cache, Layer, NonNegative, Params, bare, constructor


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
    """Pass the relevance of y on to x, which has the same shape."""
    return Rule("pass_()", lambda use, relevance: relevance)


def gradient() -> Rule:
    """Move relevance as the layer's backward moves a gradient.

    It conserves relevance where each element of y is an element of x: in max-pooling, whose largest
    element gets all, and in layers that only move elements.
    """
    return Rule("gradient()", _pulled)


def _pulled(use: Use, relevance: Arrays) -> Arrays:
    return use.layer.input_grad(use.params, use.cache, relevance)


@constructor
def norm(stabilizer: NonNegative = 1e-6) -> Rule:
    """Share in proportion to the contributions to a sum or a mean.

    In a residual connection, y = f(x) + x, each of the two gets its part of R, so it is conserved.
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        return product(use.x, _pulled(use, share(relevance, use.y, stabilizer)))

    return bare(Rule, propagate)


@constructor
def split(stabilizer: NonNegative = 1e-6) -> Rule:
    """Share equally among the factors of a product."""

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        return product(use.x, _pulled(use, share(relevance, use.y, stabilizer) / len(use.x)))

    return bare(Rule, propagate)


def nothing() -> Rule:
    """Give no relevance to x, the indices of an embedding: theirs is that of its output."""
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
