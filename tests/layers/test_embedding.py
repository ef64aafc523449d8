"""What the table of cases cannot say of embeddings, positions and the bilinear layer."""

import math

import pytest
import torch
from helpers import assert_says, first_run, normal, run, same_bits, same_number, same_statistics
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import rope_scaling
from lincoln_fn.fastpath import fast
from lincoln_fn.initializers import Initializer, constant
from lincoln_fn.layers.vector_quantize import Codebook, RunningCodebook, nearest

INDICES = torch.tensor([[4, 2, 4, 0], [2, 5, 6, 4]])
KEY = lf.Key(7)
EITHER = pytest.mark.parametrize("of", [lambda layer: layer, fast], ids=["formula", "fast"])


@EITHER
@pytest.mark.parametrize("padding_idx", [2, -5, 0, 6, -7])
def test_the_padding_row_starts_at_0_and_has_no_gradient(padding_idx, of):
    layer, others = of(lf.embedding(7, 3, padding_idx)), torch.arange(7) != padding_idx % 7
    assert same_bits(layer.init(KEY, INDICES).weight.any(1), others)
    # A row that is not zero is returned as it stands.
    params = lf.layers.embedding.Params(normal(7, 3))
    y, _, dparams = run(layer, params, INDICES, torch.ones(2, 4, 3))
    assert same_bits(y, params.weight[INDICES])
    counts = INDICES.flatten().bincount(minlength=7) * others
    assert same_bits(dparams.weight, counts.float()[:, None].expand(7, 3))


def test_an_initializer_keeps_what_it_drew_from():
    pretrained = torch.ones(7, 3)
    load = Initializer("load()", lambda key, shape, fans, dtype: pretrained)
    weight = lf.embedding(7, 3, 2, weight_init=load).init(KEY, INDICES).weight
    assert weight[2].tolist() == [0, 0, 0]
    assert (pretrained == 1).all()


def test_embeddings_start_as_torchs():
    weight = lf.embedding(400, 100).init(KEY, INDICES).weight
    assert same_statistics(weight.flatten(), mean=0, std=1)
    weight = lf.positional_embedding(400).init(KEY, torch.zeros(1, 100)).weight
    assert weight.shape == (400, 100)
    assert same_statistics(weight.flatten(), mean=0, std=0.02)


def test_the_table_has_the_dtype_asked_for():
    layer = lf.embedding(7, 3, dtype=torch.float64)
    assert repr(layer) == "embedding(7, 3, dtype=torch.float64)"
    params = layer.init(KEY, INDICES.to("meta"))
    assert (params.weight.dtype, params.weight.device.type) == (torch.float64, "cpu")
    assert lf.embedding(7, 3).init(KEY, INDICES).weight.dtype is torch.float32


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
@EITHER
def test_any_integers_are_indices(dtype, of):
    layer = of(lf.embedding(7, 3))
    params, g = layer.init(KEY, INDICES), normal(2, 4, 3)
    given, expected = (run(layer, params, x, g) for x in (INDICES.to(dtype), INDICES))
    assert same_number((given[0], given[2].weight), (expected[0], expected[2].weight))


@EITHER
def test_a_thousand_small_gradients_sum_up_in_bfloat16(of):
    layer = of(lf.embedding(3, 2, dtype=torch.bfloat16))
    x = torch.ones(1000, dtype=torch.int64)
    params = layer.init(KEY, x)
    y, _, dparams = run(layer, params, x, torch.ones(1000, 2, dtype=torch.bfloat16))
    assert (y.dtype, dparams.weight.dtype) == (torch.bfloat16, torch.bfloat16)
    assert dparams.weight.tolist() == [[0, 0], [1000, 1000], [0, 0]]


@EITHER
def test_embedding_under_vmap(of):
    layer = of(lf.embedding(7, 3, padding_idx=2))
    params, g = layer.init(KEY, INDICES), normal(2, 4, 3)
    mapped = torch.func.vmap(
        lambda x, g: run(layer, params, x, g)[0::2], out_dims=(0, lf.layers.embedding.Params(0))
    )(INDICES, g)
    y, _, dparams = run(layer, params, INDICES, g)
    assert same_bits(mapped[0], y)
    assert same_number(mapped[1].weight.sum(0), dparams.weight)


def test_sinusoids_keep_their_phase_far_along():
    y = lf.sinusoidal_positions().predict((), torch.zeros(10_001, 3))
    angle = 10_000 / 10_000 ** (2 / 3)
    expected = [math.sin(10_000), math.cos(10_000), math.sin(angle)]
    assert same_number(y[10_000, :3].tolist(), expected, terms=1.0, length=4, dtype=torch.float32)


@pytest.mark.parametrize("layer", [lf.positional_embedding(6), lf.sinusoidal_positions()], ids=str)
def test_the_cache_of_positions_is_one_number(layer):
    x = normal(2, 4, 3)
    _, cache = layer.forward(layer.init(KEY, x), x)
    assert cache.untyped_storage().nbytes() == 4


def test_bilinear_starts_as_torchs():
    params = lf.bilinear(50).init(KEY, (torch.zeros(1, 16), torch.zeros(1, 40)))
    for leaf in lf.tree.leaves(params):
        assert leaf.abs().max() <= 0.25
    assert same_statistics(params.weight.flatten(), mean=0, std=0.25 / math.sqrt(3))
    assert not same_bits(params.weight.flatten()[:50], params.bias)
    layer = lf.bilinear(4, weight_init=constant(0.5), bias_init=constant(2.0))
    params = layer.init(KEY, (torch.zeros(1, 2), torch.zeros(1, 3)))
    y = layer.predict(params, (torch.ones(2), torch.ones(3)))
    assert same_number(y, torch.full((4,), 5.0))


TABLE = lf.layers.embedding.Params(torch.zeros(7, 3))
PLACES = lf.layers.positional_embedding.Params(torch.zeros(6, 3))
PAIR = (torch.zeros(5, 3), torch.zeros(5, 6))
MATRICES = lf.layers.bilinear.Params(torch.zeros(4, 3, 6), torch.zeros(4))
test_wrong_hyperparameters_and_inputs = refusals("""
embedding(3, 2, 3) -> ^embedding: expected padding_idx from -3 to 2, got 3$
embedding(3, 2, -4) -> ^embedding: expected padding_idx from -3 to 2, got -4$
layers.embedding.forward(TABLE, torch.tensor([0, 7, 3])) -> ^embedding: expected indices from 0 to
    6, got 7$
layers.embedding.forward(TABLE, torch.ones(2)) -> ^embedding: expected x to be a tensor of integers,
    got torch.float32$
layers.embedding.forward(TABLE, 3) -> ^embedding: expected x to be a tensor of integers, got int$
layers.positional_embedding.forward(PLACES, torch.zeros(7, 3)) -> ^positional_embedding(6): expected
    x of shape (..., length, 3) with length at most 6, got (7, 3)$
layers.sinusoidal_positions.forward((), torch.zeros(3)) -> ^sinusoidal_positions: expected x of
    shape (..., length, features), got (3,)$
layers.bilinear.forward(MATRICES, PAIR[0]) -> ^bilinear: expected x to be (u, v), got float32[5, 3]$
layers.bilinear.forward(MATRICES, (PAIR[0], PAIR[1].double())) -> ^bilinear: expected x[1] of dtype
    torch.float32, got torch.float64$
layers.bilinear.forward(MATRICES, (PAIR[0], PAIR[1][:2])) -> ^bilinear: expected x of shapes (...,
    n_u) and (..., n_v) with the same leading axes, got (5, 3) and (2, 6)$
layers.bilinear.forward(MATRICES, (PAIR[0], PAIR[0])) -> ^bilinear(4): expected x of shapes (..., 3)
    and (..., 6), got (5, 3) and (5, 3)$
embedding(7, 3).init(KEY, torch.zeros(2)) -> ^embedding: expected x to be a tensor of integers, got
    torch.float32$
positional_embedding(6).init(KEY, torch.zeros(7, 3)) -> ^positional_embedding(6): expected x of
    shape (..., length, features) with length at most 6, got (7, 3)$
positional_embedding(6).init(KEY, torch.zeros(3)) -> ^positional_embedding(6): expected x of shape
    (..., length, features) with length at most 6, got (3,)$
positional_embedding(6).init(KEY, torch.tensor(1.0)) -> ^positional_embedding(6): expected x of
    shape (..., length, features) with length at most 6, got ()$
bilinear(4).init(KEY, (PAIR[0], PAIR[1][:2])) -> ^bilinear: expected x of shapes (..., n_u) and
    (..., n_v) with the same leading axes, got (5, 3) and (2, 6)$
""")


# The nearest codes of a vector quantisation, and its running means, computed code by code.


def test_codes_are_running_means_of_their_vectors():
    layer, x = lf.vector_quantize(3, decay=0.9), normal(8, 2).double()
    weight = torch.tensor([[0.5, 0.0], [-0.5, 0.0], [90.0, 0.0]]).double()
    params = RunningCodebook(weight, torch.ones(3).double(), weight)
    counts, totals = [1.0] * 3, list(weight)
    for _ in range(2):
        codes = nearest(params, x).tolist()
        params = layer.advance(params, layer.forward(params, x)[1])
        for v in range(3):
            own = [row for row, code in zip(x, codes, strict=True) if code == v]
            counts[v] = 0.9 * counts[v] + 0.1 * len(own)
            totals[v] = 0.9 * totals[v] + 0.1 * sum(own)
        means = [total / count for total, count in zip(totals, counts, strict=True)]
        assert same_number(params.weight, torch.stack(means))
    assert same_number(params.weight[2], weight[2])  # no vector had it


def test_a_code_without_vectors_for_long_stays():
    layer, x = lf.vector_quantize(2, decay=0.5), torch.zeros(4, 1)
    weight = torch.tensor([[0.0], [7.0]])
    params = RunningCodebook(weight, torch.tensor([1.0, 1e-30]), torch.tensor([[0.0], [0.0]]))
    assert same_bits(layer.advance(params, layer.forward(params, x)[1]).weight[1], weight[1])


def test_a_wrong_g_is_refused():
    layer, x = lf.vector_quantize(2), normal(3, 2)
    params, _, cache = first_run(layer, x)
    assert_says("expected g with 3 entries", layer.backward, params, cache, x)
    with pytest.raises(lf.LayerError, match=r"expected g of shape \(3, 2\), got \(1, 2\)"):
        layer.backward(params, cache, (x, x[:1], x))


@pytest.mark.parametrize("centre", [0.0, 1e4, -1e4])
def test_the_nearest_code_is_found_far_from_0(centre):
    codes = torch.tensor([[0.0], [1.0]]) + centre
    x = torch.tensor([[0.9], [0.1], [1.0]]) + centre
    assert nearest(Codebook(codes), x).tolist() == [1, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_nearest_code_in_half_precision_is_that_of_float32(dtype):
    codes = lf.keys.normal(lf.Key(0), (32, 300)).to(dtype) * 100
    x = lf.keys.normal(lf.Key(1), (64, 300)).to(dtype) * 100
    distance = (x.double().unsqueeze(1) - codes.double()).square().sum(-1)
    assert torch.equal(nearest(Codebook(codes), x), distance.argmin(-1))


# Rotary positions, and their scaled frequencies: what the table of cases cannot say.


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
