"""Rotary positions, and their scaled frequencies: what the table of cases cannot say."""

import math

import pytest
import torch
from helpers import normal, same_number
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import rope_scaling

THETA, N, T = 10000.0, 16, 64


def test_scores_depend_on_the_distance_alone():
    q, k = normal(1, 6).double().expand(5, 6), normal(1, 6, seed=1).double().expand(5, 6)
    layer = lf.rotary_embedding()
    scores = layer.predict((), q) @ layer.predict((), k).mT
    later = torch.arange(1000, 1005)
    assert same_number(layer.predict((), (q, later)) @ layer.predict((), (k, later)).mT, scores)
    for distance in range(-4, 5):
        diagonal = scores.diagonal(distance)
        assert same_number(diagonal, diagonal[:1].expand_as(diagonal), terms=6.0)


def test_angles_keep_their_phase_far_along():
    x = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    y = lf.rotary_embedding().predict((), (x, torch.tensor([123_456])))
    expected = [math.cos(123_456), math.cos(1234.56), math.sin(123_456), math.sin(1234.56)]
    assert same_number(y[0].tolist(), expected, terms=1.0, length=4, dtype=torch.float32)
    large = 1e4 * normal(9, 6)
    y, exact = (lf.rotary_embedding().predict((), x) for x in (large, large.double()))
    assert same_number(y, exact, length=4, dtype=torch.float32)


def test_no_position():
    layer, empty = lf.rotary_embedding(rotary_dim=2), torch.zeros(2, 3, 0, 6)
    assert layer.predict((), (empty, torch.arange(0))).shape == (2, 3, 0, 6)
    scaled = lf.rotary_embedding(scaling=rope_scaling.dynamic(2.0, 4))
    assert scaled.predict((), empty).shape == (2, 3, 0, 6)


def test_the_cache_keeps_no_heads():
    _, cache = lf.rotary_embedding().forward((), normal(8, 9, 5, 6))
    held = {leaf.untyped_storage().data_ptr(): leaf for leaf in lf.tree.leaves(cache)}
    assert sum(leaf.untyped_storage().nbytes() for leaf in held.values()) <= 4 * (1 + 2 * 5 * 3)


def turns(i):
    return T * THETA ** (-2 * i / N) / (2 * math.pi)


def own(i):
    return THETA ** (-2 * i / N)


def yarn(i, low, high):
    share = min(max((i - low) / (high - low), 0), 1)
    return own(i) * (1 - share) + own(i) / 4 * share


def llama3(i):
    share = min(max((turns(i) - 0.5) / (3 - 0.5), 0), 1)
    return own(i) * share + own(i) / 8 * (1 - share)


def pair_that_turns(times):
    return N * math.log(T / (2 * math.pi * times)) / (2 * math.log(THETA))


SCALINGS = [
    (rope_scaling.linear(4.0), lambda i, length: own(i) / 4),
    (rope_scaling.dynamic(2.0, T),
        lambda i, length: (THETA * (2 * max(length, T) / T - 1) ** (N / (N - 2))) ** (-2 * i / N)),
    (rope_scaling.yarn(4.0, T, beta_fast=8.0, truncate=False),
        lambda i, length: yarn(i, pair_that_turns(8), pair_that_turns(1))),
    (rope_scaling.yarn(4.0, T, beta_fast=8.0),
        lambda i, length: yarn(i, math.floor(pair_that_turns(8)), math.ceil(pair_that_turns(1)))),
    (rope_scaling.llama3(8.0, T, low_freq_factor=0.5, high_freq_factor=3.0),
        lambda i, length: llama3(i)),
    (rope_scaling.longrope((1.0,) * 4 + (2.0,) * 4, (3.0,) * 8, 4.0, T),
        lambda i, length: own(i) / (3 if length > T else 1 if i < 4 else 2)),
]  # fmt: skip


@pytest.mark.parametrize(("scaling", "formula"), SCALINGS, ids=lambda given: str(given)[:12])
def test_frequencies_are_their_formula(scaling, formula):
    for length in (5.0, T, T + 1.0, 4.0 * T):
        given = scaling.frequencies(THETA, N, torch.tensor(length, dtype=torch.float64))
        assert same_number(given.tolist(), [formula(i, length) for i in range(N // 2)])
    # And of several sequences, each has those of its own length.
    lengths = torch.tensor([[5.0], [4.0 * T]]).double()
    given = scaling.frequencies(THETA, N, lengths).expand(2, N // 2)
    of_each = [[formula(i, length) for i in range(N // 2)] for length in (5.0, 4 * T)]
    assert same_number(given, torch.tensor(of_each, dtype=torch.float64))


def test_factors_of_the_rotated_features():
    m = 1 + 0.1 * math.log(4)
    assert rope_scaling.yarn(4.0, T).attention_factor == pytest.approx(m, rel=1e-12)
    assert rope_scaling.yarn(0.5, T).attention_factor == 1
    assert rope_scaling.yarn(4.0, T, attention_factor=3.0).attention_factor == 3
    given = rope_scaling.yarn(4.0, T, mscale=0.7, mscale_all_dim=0.5).attention_factor
    expected = (1 + 0.07 * math.log(4)) / (1 + 0.05 * math.log(4))
    assert given == pytest.approx(expected, rel=1e-12)
    long = rope_scaling.longrope((1.0,), (2.0,), 4.0, T).attention_factor
    assert long == pytest.approx(math.sqrt(1 + math.log(4) / math.log(T)), rel=1e-12)
    assert rope_scaling.longrope((1.0,), (2.0,), 0.5, T).attention_factor == 1
    x = normal(2, 5, N)
    y = lf.rotary_embedding(scaling=rope_scaling.yarn(4.0, T)).predict((), x)
    assert same_number(y.square().sum(-1), m**2 * x.square().sum(-1))


def test_the_length_of_each_sequence_counts_and_not_the_others():
    layer = lf.rotary_embedding(scaling=rope_scaling.dynamic(2.0, 4))
    x, positions = normal(2, 3, N), torch.tensor([[0, 1, 2], [7, 8, 9]])
    y = layer.predict((), (x, positions))
    for i in range(2):
        assert same_number(y[i], layer.predict((), (x[i], positions[i])))


def test_ones_own_scaling():
    made = rope_scaling.RopeScaling(
        "halved()", lambda theta, n, length: rope_scaling.unscaled(theta, n, length) / 2, 3.0
    )
    layer = lf.rotary_embedding(scaling=made)
    assert layer.name == "rotary_embedding(scaling=halved())"
    linear = lf.rotary_embedding(scaling=rope_scaling.linear(2.0))
    assert linear.name == "rotary_embedding(scaling=linear(2.0))"
    x = normal(2, 5, 6)
    assert same_number(layer.predict((), x), 3 * linear.predict((), x))


HEADS = normal(2, 3, 5, 6)
test_errors = refusals("""
rotary_embedding(rotary_dim=3) -> rotary_dim to be even, got 3
rope_scaling.yarn(2.0, 9, beta_fast=0.5) -> beta_fast above beta_slow = 1.0, got 0.5
rope_scaling.llama3(2.0, 9, high_freq_factor=1.0) -> high_freq_factor above low_freq_factor = 1.0,
    got 1.0
rope_scaling.longrope((1.0,), (1.0, 2.0), 2.0, 9) -> numbers in long_factor as in short_factor, 1,
    got 2
rotary_embedding().predict((), normal(5, 3)) -> x with an even number of features, got (5, 3)
rotary_embedding().predict((), (HEADS, normal(5))) -> positions to be a tensor of integers
rotary_embedding().predict((), (HEADS, torch.arange(4))) -> positions that broadcast to (2, 3, 5),
    got (4,)
rotary_embedding().predict((), (HEADS, torch.zeros(2, 5).long())) -> positions that broadcast to (2,
    3, 5), got (2, 5)
rotary_embedding(scaling=rope_scaling.longrope((1.0,), (1.0,), 2.0, 9)).predict((), HEADS) -> a
    factor for each of 3 pairs, got 1
rotary_embedding(1.0, scaling=rope_scaling.yarn(2.0, 9)).predict((), HEADS) -> theta above 1, got
    1.0
""")
