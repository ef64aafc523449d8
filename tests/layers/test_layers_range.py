"""Layers at the ends of a dtype's range: sums that overflow, lengths and numbers that vanish."""

import pytest
import torch
from helpers import first_run, run, same_number

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
@pytest.mark.parametrize("masked", [False, True])
def test_a_masked_mean_whose_sum_is_beyond_float16(dtype, masked):
    x = torch.full((1, 70_000, 2), 1000.0, dtype=dtype)
    mask = torch.ones(1, 70_000, dtype=torch.bool)
    mask[0, 35_000:] = not masked
    y, dx = both(lf.masked_mean(), (x, mask) if masked else x)
    dx = dx[0] if masked else dx
    n = 35_000 if masked else 70_000
    assert y.tolist() == [[1000.0, 1000.0]]
    assert same_number(dx[0, 0], torch.full((2,), 1 / n, dtype=dtype), terms=2.0**-14)
    assert dx[0, 0].all()
    assert y.dtype is dx.dtype is dtype


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_the_length_of_half_precision_is_of_float32(dtype, size):
    x = torch.where(torch.arange(64) % 2 == 0, size, -size).to(dtype).view(1, 64)
    x = torch.cat((x, x.flip(1).abs() / 2, x.roll(1, 1) * (torch.arange(64) / 64).to(dtype)))
    g = torch.arange(192, dtype=dtype).view(3, 64) / 64
    layer = lf.normalize()
    y, dx, _ = run(layer, (), x, g)
    exact, of_exact = layer.forward((), x.double())
    expected, _ = layer.backward((), of_exact, g.double())
    assert y.dtype is dx.dtype is dtype
    assert same_number(y, exact, dtype=dtype)
    # g - y sum(g y) cancels; below 2^-14, float16 has multiples of 2^-24.
    terms = (3 / x.double().norm(dim=1, keepdim=True)).clamp(min=2.0**-14) * 4
    assert same_number(dx, expected, terms=terms, dtype=dtype)
    assert dx.any()


@pytest.mark.parametrize("dtype", HALVES)
def test_cosine_similarities_of_long_rows_in_half_precision(dtype):
    a = t([[1e4, 1e4, 0.0, 0.0] * 16, [1e4] * 64], dtype=dtype)
    b = t([[1e4] * 64, [0.0, 2e4, 0.0, 0.0] * 16], dtype=dtype)
    layer = lf.cosine_similarities(init_scale=1.0)
    results = []
    for x in ((a, b), (a.double(), b.double())):
        params, y, cache = first_run(layer, x)
        g = t([[1.0, -2.0], [3.0, 1.0]], dtype=y.dtype)
        results.append((y, layer.backward(params, cache, g)[0]))
    (y, dx), (exact, expected) = results
    assert y.dtype is dx[0].dtype is dx[1].dtype is dtype
    assert same_number(y, exact, dtype=dtype)
    assert same_number(dx, expected, terms=4 / 8e4, error=1e-3, dtype=dtype)
    assert dx[0].any()


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_has_its_variance_in_float32(dtype):
    layer = lf.variance(0)
    x = t([0, 1, 1], dtype=dtype) + (1000 if dtype is torch.float16 else 200)
    y, dx = both(layer, x)
    assert same_number((y, dx), (t(1 / 3, dtype=dtype), t([-2 / 3, 1 / 3, 1 / 3], dtype=dtype)))
    x = t([-30.0, 30.0] * 50, dtype=dtype)
    y, dx = both(layer, x)
    assert same_number((y, dx), (t(90_000 / 99, dtype=dtype), x * (2 / 99)))


def test_a_variance_of_a_small_spread_around_a_large_mean():
    step = 2.0**-10
    x = torch.full((3, 2), 1e4) + t([[0.0], [step], [step]])
    y, dx = both(lf.variance(0), x)
    assert same_number(y, torch.full((2,), step**2 / 3))
    assert same_number(dx, t([[-2 / 3], [1 / 3], [1 / 3]]).expand(3, 2) * step)
    y, dx = both(lf.variance(None), x)
    assert same_number(y, t(step**2 * (4 / 3) / 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_no_feature_of_a_gated_recurrence_is_dead_at_the_beginning(dtype):
    u = torch.zeros(1, 1, 4000, dtype=dtype)
    params = lf.gated_linear_recurrence().init(lf.Key(0), (u, u, u))
    assert params.decay.dtype is dtype
    # softplus(lambda) = -log(a) / 8 for a in 0.9 to 0.999.
    a = torch.exp(-8 * torch.nn.functional.softplus(params.decay.double()))
    assert a.min() > 0.895
    assert a.max() < 0.9991
