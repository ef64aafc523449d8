"""Rules of relevance and inputs for their tests."""

import torch

import lincoln_fn as lf
from lincoln_fn.attribution import kinds, rules
from lincoln_fn.attribution.composites import base

# Conserves everywhere that a rule can.
EXACT = lf.attribution.Composite(
    (
        (kinds.ATTENTION, rules.attention(0.0, constant_weights=True)),
        (kinds.RECURRENT, rules.recurrent(0.0, zero_bias=True)),
        *base(0.0),
        (kinds.LINEAR, rules.epsilon(0.0, zero_bias=True)),
    )
)


def normal(*shape, seed=0):
    return lf.keys.normal(lf.Key(100 + seed), shape, dtype=torch.float64)
