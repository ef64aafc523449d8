"""The cases that lf.fast changes."""

import pytest
import torch

import lincoln_fn as lf
from helpers import CASES, Case, normal

HEADS = lf.attention_heads
QUERY, KEY = normal(2, 40, 32), normal(2, 70, 16, seed=1)
MASK = torch.arange(70) >= torch.tensor([60, 70])[:, None, None, None] - 60
LARGE = [
    Case(lf.dense(500), normal(256, 300), note="large"),
    Case(lf.dense(10), normal(256, 300), note="large and narrow"),
    Case(lf.conv2d(16, 3, padding=1), normal(8, 8, 20, 20), note="large"),
    Case(lf.lstm(32), normal(16, 12, 24), note="large"),
    Case(lf.multi_head_attention(4), normal(4, 40, 32), note="large"),
    Case(HEADS(4, 2, is_causal=True), (QUERY, KEY, normal(2, 70, 8, seed=2)), note="large"),
    Case(HEADS(4, 2, is_causal=True, sliding_window=9), (QUERY, KEY, KEY, MASK), note="large"),
    Case(lf.scaled_dot_product_attention(), (QUERY, normal(2, 70, 32), KEY), note="large"),
]


def changed(layer):
    """Return whether `fast` makes another layer of a layer."""
    fast = lf.fast(layer)
    names = ("forward", "backward", "predict", "input_grad", "grads")
    return any(getattr(fast, name) != getattr(layer, name) for name in names)


ROWS = [case for case in [*CASES, *LARGE] if changed(case.layer)]
# Each case with its layer, and with the faster one if it has one.
VERSIONS = [
    pytest.param(case, layer, id=f"{case}{'-fast' * (layer is not case.layer)}")
    for case in CASES
    for layer in (case.layer, *([lf.fast(case.layer)] if case in ROWS else []))
]
