"""Rules that need nothing but a layer's `forward` and `input_grad`.

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

from functools import partial

import torch

from lincoln_fn.attribution._target import product
from lincoln_fn.attribution.rules.rule import Rule, Use, share
from lincoln_fn.core import Arrays, NonNegative, bare, constructor, tree


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
        shares = _pulled(use, share(relevance, use.y, stabilizer) / len(use.x))
        return product(use.x, shares)

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
        shares = tree.map(partial(share, epsilon=stabilizer), relevance, use.y)
        of_x = product(use.x, _pulled(use, shares))
        is_signal = (i in use.cache.signals for i in range(len(of_x)))
        return tuple(
            entry if own or entry is None else torch.zeros_like(entry)
            for entry, own in zip(of_x, is_signal, strict=True)
        )

    return bare(Rule, propagate)
