"""Layers at the ends of a dtype's range: sums that overflow, lengths and numbers that vanish."""

import pytest
import torch
from helpers.compare import same_number

import lincoln_fn as lf

t = torch.tensor


def both(layer, x, params=()):
    """Compute y, and dx of g = 1."""
    y, cache = layer.forward(params, x)
    return y, layer.backward(params, cache, lf.tree.map(torch.ones_like, y))[0]


@pytest.mark.parametrize("size", [1e-25, 1e-6, 1.0, 1e25])
@pytest.mark.parametrize("p", [2.0, 10.0])
def test_a_norm_is_right_where_its_powers_are_out_of_range(p, size):
    x = t([3.0, 4.0], dtype=torch.float64)
    y, dx = both(lf.norm(p), x)
    given = both(lf.norm(p), x.float() * size)
    assert same_number(given, ((y * size).float(), dx.float()))


HALVES = [torch.float16, torch.bfloat16]
