"""What the table of cases cannot say of embeddings, positions and the bilinear layer."""

import math

import pytest
import torch
from helpers import normal, run, same_bits, same_number, same_statistics
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.fastpath import fast
from lincoln_fn.initializers import Initializer, constant

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
