"""Keys: the same numbers for ever, everywhere; independent streams; the right distributions."""

import math

import numpy as np
import pytest
import torch
from helpers import assert_says, same_bits, same_number, same_statistics
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf

N = 200_000


def mixed(z):
    """Compute SplitMix64's finalizer in Python's integers."""
    mask = (1 << 64) - 1
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


def unsigned(bits):
    return [int(b) % (1 << 64) for b in bits.flatten()]


# A number here may never change: checkpoints and published results hang on it.
GOLDEN = {
    "fold_in": (lambda: lf.Key(0).fold_in(7).bits, 725956797819338954),
    "split": (lambda: lf.Key(0).split(2)[1].bits, -7503603726292234337),
    "uniform": (lambda: lf.keys.uniform(lf.Key(5), (3,)).tolist(),
        [0.5459356307983398, 0.2853182554244995, 0.6705115437507629]),
    "uniform, float64": (lambda: lf.keys.uniform(lf.Key(5), (3,), dtype=torch.float64).tolist(),
        [0.545935644327051, 0.2853182586527011, 0.6705115517568312]),
    "permutation": (lambda: lf.keys.permutation(lf.Key(5), 8).tolist(), [0, 2, 4, 5, 1, 7, 3, 6]),
    "bernoulli": (lambda: lf.keys.bernoulli(lf.Key(5), (8,), 0.5).int().tolist(),
        [0, 1, 0, 1, 0, 1, 1, 1]),
}  # fmt: skip


@pytest.mark.parametrize(("draw", "expected"), GOLDEN.values(), ids=GOLDEN)
def test_numbers_never_change(draw, expected):
    assert draw() == expected


def test_normal_numbers_never_change():
    # But for the last digits, which are those of the machine's logarithm and cosine.
    drawn = lf.keys.normal(lf.Key(5), (3,), dtype=torch.float64)
    expected = [-1.215239338099713, 0.7854078987611354, 0.36815189976291834]
    assert same_number(drawn.tolist(), expected)


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1, -1, -(2**63)])
def test_the_generator_is_the_one_of_its_docstring(seed):
    key = mixed(seed % (1 << 64))
    assert unsigned(lf.Key(seed).bits) == [key]
    c = 0x9E3779B97F4A7C15
    numbers = [mixed(key ^ (i + 1) * c % (1 << 64)) for i in range(4)]
    assert unsigned(lf.keys.bits(lf.Key(seed), (2, 2))) == numbers


def test_a_seed_and_the_tensor_that_holds_its_bits_are_one_key():
    assert same_bits(lf.Key(lf.Key(7).bits).bits, lf.Key(7).bits)
    assert lf.Key(7).bits.dtype is torch.int64


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_of_more_than_64_bits_is_refused(seed):
    assert_says(f"ValueError: ^Key: expected a seed of at most 64 bits, got {seed}$", lf.Key, seed)


def test_a_split_into_none_is_refused():
    assert_says("ValueError: ^Key.split: expected n of at least 1, got 0$", lf.Key(0).split, 0)


@pytest.mark.parametrize("data", [0, 1, 7, -1, 2**62, -(2**63), 2**63 - 1])
def test_fold_in_takes_a_number_of_every_kind_alike(data):
    expected = lf.Key(3).fold_in(data).bits
    small = (torch.tensor(data, dtype=torch.uint8), np.int32(data)) if 0 <= data < 8 else ()
    for given in (torch.tensor(data), np.int64(data), *small):
        assert same_bits(lf.Key(3).fold_in(given).bits, expected)


def test_fold_in_tells_all_numbers_of_64_bits_apart():
    numbers = [0, 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 2, -(2**63) + 1]
    assert len({int(lf.Key(0).fold_in(number).bits) for number in numbers}) == len(numbers)


def test_children_differ_from_each_other_and_from_their_parents_draws():
    parent = lf.Key(0)
    children = [int(parent.fold_in(i).bits) for i in range(1000)]
    drawn = lf.keys.bits(parent, (1000,)).tolist()
    grandchildren = [int(parent.fold_in(0).fold_in(i).bits) for i in range(1000)]
    others = [int(lf.Key(seed).fold_in(0).bits) for seed in range(1, 1000)]
    split = [int(key.bits) for key in parent.split(1000)]
    seen = {int(parent.bits), *children, *drawn, *grandchildren, *others, *split}
    assert len(seen) == 1 + 1000 + 1000 + 1000 + 999 + 1000


def test_split_is_deterministic_and_a_longer_split_begins_alike():
    first = [int(key.bits) for key in lf.Key(9).split(3)]
    assert first == [int(key.bits) for key in lf.Key(9).split(3)]
    assert first[:2] == [int(key.bits) for key in lf.Key(9).split()]


@pytest.mark.parametrize(("a", "b"), [
    (lf.Key(0), lf.Key(1)), lf.Key(0).split(), (lf.Key(0), lf.Key(0).fold_in(0)),
    (lf.Key(0).fold_in(0), lf.Key(0).fold_in(1)), (lf.Key(0).fold_in(1), lf.Key(1).fold_in(0)),
], ids=["seeds", "split", "parent and child", "siblings", "cousins"])  # fmt: skip
def test_streams_are_uncorrelated_at_every_small_lag(a, b):
    x, y = (lf.keys.uniform(key, (N,), -0.5, 0.5, torch.float64) for key in (a, b))
    for lag in range(-3, 4):
        assert same_statistics(x * y.roll(lag), mean=0)
    for lag in range(1, 4):
        assert same_statistics(x * x.roll(lag), mean=0)


def test_every_bit_is_set_half_of_the_time():
    drawn = lf.keys.bits(lf.Key(2), (N,))
    for bit in range(64):
        assert same_statistics((drawn >> bit) & 1, mean=0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_uniform_has_its_moments_and_stays_in_0_to_1(dtype):
    x = lf.keys.uniform(lf.Key(1), (N,), dtype=dtype)
    assert x.dtype is dtype
    assert 0 <= x.min() < 1e-4
    assert 1 - 1e-4 < x.max() < 1
    assert same_statistics(x, mean=1 / 2, std=math.sqrt(1 / 12))
    assert same_statistics((20 * x).long()[:, None] == torch.arange(20), mean=1 / 20)


def test_uniform_never_reaches_1_at_the_highest_bits(monkeypatch):
    monkeypatch.setattr(lf.keys, "bits", lambda key, shape: torch.full(shape, -1))
    for dtype in (torch.float32, torch.float64):
        assert lf.keys.uniform(lf.Key(0), (1,), dtype=dtype) < 1
    assert torch.isfinite(lf.keys.normal(lf.Key(0), (3,))).all()


def test_uniform_is_scaled_into_its_bounds():
    unit, scaled = lf.keys.uniform(lf.Key(1), (50,)), lf.keys.uniform(lf.Key(1), (50,), -3.0, 5.0)
    assert same_number(scaled, 8 * unit - 3)
    assert scaled.min() >= -3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_normal_has_its_moments(dtype):
    x = lf.keys.normal(lf.Key(1), (N,), dtype=dtype).double()
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert same_statistics(x**power, mean=moment)
    assert lf.keys.normal(lf.Key(1), (3,), dtype=torch.bfloat16).dtype is torch.bfloat16
    assert same_statistics(x.abs() < 1, mean=math.erf(1 / math.sqrt(2)))
    shifted = lf.keys.normal(lf.Key(1), (N,), mean=5.0, std=0.25, dtype=dtype).double()
    assert same_number(shifted, 0.25 * x + 5, length=4, dtype=dtype)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_bernoulli_is_true_with_probability_p(p):
    drawn = lf.keys.bernoulli(lf.Key(1), (N,), p)
    assert drawn.dtype is torch.bool
    assert same_statistics(drawn, mean=p)


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_a_permutation_has_each_number_once(n):
    order = lf.keys.permutation(lf.Key(4), n)
    assert order.dtype is torch.int64
    assert same_number(order.sort().values, torch.arange(n))


def test_permutations_are_equally_likely():
    orders = [tuple(lf.keys.permutation(lf.Key(seed), 3).tolist()) for seed in range(1200)]
    assert len(set(orders)) == 6
    assert all(abs(orders.count(order) - 200) < 5 * math.sqrt(200) for order in set(orders))


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (4, 1, 2)], ids=str)
@pytest.mark.parametrize("draw", [lf.keys.bits, lf.keys.uniform, lf.keys.normal])
def test_draws_have_their_shape_and_depend_on_nothing_else(draw, shape):
    first = draw(lf.Key(1), shape)
    assert first.shape == shape
    assert same_bits(first, draw(lf.Key(1), shape))
    if draw is not lf.keys.normal:
        assert same_bits(first.flatten(), draw(lf.Key(1), (first.numel(),)))


def all_draws(bits):
    key = lf.Key(bits)
    first, second = key.fold_in(bits).split()
    return (
        lf.keys.bits(key, (2, 3)),
        lf.keys.uniform(first, (4,)),
        lf.keys.normal(second, (3,)),
        lf.keys.bernoulli(key, (5,), 0.3),
        lf.keys.permutation(first, 6),
    )


def test_a_traced_function_draws_the_same_numbers_and_keeps_the_key_an_input():
    traced = make_fx(all_draws)(lf.Key(0).bits)
    for seed in (0, 1):
        bits = lf.Key(seed).bits
        assert same_bits(traced(bits), all_draws(bits))


def test_a_mapped_function_draws_the_same_numbers():
    bits = torch.stack([key.bits for key in lf.Key(0).split(3)])
    mapped = torch.func.vmap(lambda b: lf.keys.uniform(lf.Key(b), (4,)))(bits)
    expected = torch.stack([lf.keys.uniform(lf.Key(b), (4,)) for b in bits])
    assert same_bits(mapped, expected)


def test_meta_keys_draw_shapes_and_a_key_moves_to_any_other_device():
    meta = lf.Key(torch.empty((), dtype=torch.int64, device="meta"))
    assert lf.keys.normal(meta.split()[1], (2, 3)).device.type == "meta"
    assert lf.keys.bernoulli(meta, (2, 3), 0.5).shape == (2, 3)
    key = lf.Key(1)
    assert key.near(torch.empty(2, device="meta")) is key
    assert key.near(torch.empty(2)) is key
