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


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_has_its_variance_in_float32(dtype):
    layer = lf.variance(0)
    x = t([0, 1, 1], dtype=dtype) + (1000 if dtype is torch.float16 else 200)
    y, dx = both(layer, x)
    assert same_number(y, t(1 / 3, dtype=dtype))
    assert same_number(dx, t([-2 / 3, 1 / 3, 1 / 3], dtype=dtype))
    x = t([-30.0, 30.0] * 50, dtype=dtype)
    y, dx = both(layer, x)
    assert same_number(y, t(90_000 / 99, dtype=dtype))
    assert same_number(dx, x * (2 / 99))


def test_a_variance_of_a_small_spread_around_a_large_mean():
    step = 2.0**-10
    x = torch.full((3, 2), 1e4) + t([[0.0], [step], [step]])
    y, dx = both(lf.variance(0), x)
    assert same_number(y, torch.full((2,), step**2 / 3))
    assert same_number(dx, t([[-2 / 3], [1 / 3], [1 / 3]]).expand(3, 2) * step)
    y, dx = both(lf.variance(None), x)
    assert same_number(y, t(step**2 * (4 / 3) / 5))
