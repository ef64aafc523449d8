"""The rules of layer-wise relevance propagation: how a layer's output gives relevance to its input.

Each is a function that makes a `Rule`. `rule.py` says what a rule is, for one of your own.
"""

from lincoln_fn.attribution.rules.any_layer import (
    gradient,
    norm,
    nothing,
    pass_,
    signal,
    split,
)
from lincoln_fn.attribution.rules.attention import attention
from lincoln_fn.attribution.rules.first_layer import flat, w_square, z_box
from lincoln_fn.attribution.rules.linear import alpha_beta, epsilon, gamma, z_plus
from lincoln_fn.attribution.rules.normalisation import constant_std
from lincoln_fn.attribution.rules.recurrent import recurrent
from lincoln_fn.attribution.rules.rule import Rule, Use

__all__ = [
    "Rule",
    "Use",
    "alpha_beta",
    "attention",
    "constant_std",
    "epsilon",
    "flat",
    "gamma",
    "gradient",
    "norm",
    "nothing",
    "pass_",
    "recurrent",
    "signal",
    "split",
    "w_square",
    "z_box",
    "z_plus",
]
