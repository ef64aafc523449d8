"""Relevance through a normalisation whose standard deviation counts as a constant.

Derivation. With rstd a constant, layer norm and RMS norm are linear in x, up to the bias, and their
backward loses the term that came from rstd:

    y = (x - mean) rstd w + b    layer norm
    dx = rstd (g w - mean(g w))
    y = x rstd w    RMS norm
    dx = rstd g w

The relevance is shared in proportion to the contributions to y: R_i = x_i dx_i with g = R / y. The
bias takes its share. `pass_`, which gives each x_i the relevance of its own y_i, is the other rule
for normalisations.

Source: Ali and others, "XAI for Transformers: Better Explanations through Conservative
Propagation", ICML 2022.
"""

from __future__ import annotations

from lincoln_fn.attribution.rules.rule import Rule, Use, share
from lincoln_fn.core import Arrays, LayerError, NonNegative, bare, constructor
from lincoln_fn.layers import layer_norm, rms_norm
from lincoln_fn.rules.internal import constant_rstd


@constructor
def constant_std(stabilizer: NonNegative = 1e-6) -> Rule:
    """Share through layer norm or RMS norm as if the standard deviation were a constant.

    Example:
        >>> constant_std()
        constant_std()
    """

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        if not isinstance(use.cache, layer_norm.Cache | rms_norm.Cache):
            raise LayerError(use.layer.name, "expected layer_norm or rms_norm for constant_std()")
        g = share(relevance, use.y, stabilizer)
        return use.x * constant_rstd(use.params, use.cache, g)

    return bare(Rule, propagate)
