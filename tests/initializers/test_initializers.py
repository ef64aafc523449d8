"""Initializers: their statistics, their structure, and the layouts that they know."""

import math

import pytest
import torch
from helpers import same_bits, same_number, same_statistics
from helpers.initializers import ALL, DISTRIBUTIONS
from helpers.refusals import refusals
from scipy import stats

import lincoln_fn as lf
from lincoln_fn import initializers as init

FANS = init.Fans(50, 200)


def drawn(initializer, shape=(50, 200), dtype=torch.float64, key=0):
    return initializer.draw(lf.Key(key), shape, FANS, dtype)


NAMES = [str(initializer) for initializer, _ in DISTRIBUTIONS]


@pytest.mark.parametrize(("initializer", "distribution"), DISTRIBUTIONS, ids=NAMES)
def test_values_have_their_distribution(initializer, distribution):
    values = drawn(initializer).flatten().numpy()
    assert stats.kstest(values, distribution.cdf).pvalue > 0.001
    assert same_statistics(values, mean=distribution.mean(), std=distribution.std())


@pytest.mark.parametrize("initializer", ALL, ids=str)
def test_the_key_decides_the_dtype_is_kept_and_the_name_is_code(initializer):
    shape = (6, 3, 3) if "dirac" in initializer.name else (6, 3)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        value = drawn(initializer, shape, dtype)
        assert value.dtype is dtype
        assert value.shape == shape
        assert same_bits(value, drawn(initializer, shape, dtype))
    fixed = initializer.name.startswith(("constant", "zeros", "ones", "identity", "dirac"))
    assert bool(same_bits(value, drawn(initializer, shape, torch.bfloat16, key=1))) is fixed
    names = {name: getattr(init, name) for name in init.__all__}
    again = eval(repr(initializer), names)
    assert repr(again) == repr(initializer)
    assert same_bits(drawn(again, shape), drawn(initializer, shape))


def test_every_initializer_is_listed():
    listed = {initializer.name.partition("(")[0] for initializer in ALL}
    assert listed == set(init.__all__) - {"Fans", "Initializer", "gain"}


def test_constants():
    assert same_number(drawn(init.constant(0.5), (2, 3)), torch.full((2, 3), 0.5).double())
    assert same_number(drawn(init.zeros(), (2,)), torch.zeros(2).double())
    assert same_number(drawn(init.ones(), ()), torch.ones(()).double())


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (6, 2, 3, 3), (40, 2, 3)], ids=str)
@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_orthogonal(shape, factor):
    matrix = drawn(init.orthogonal(factor), shape).flatten(1)
    small = min(matrix.shape)
    gram = matrix @ matrix.mT if matrix.shape[0] == small else matrix.mT @ matrix
    assert same_number(gram, factor**2 * torch.eye(small).double())


def test_orthogonal_has_its_factor_in_float64():
    matrix = drawn(init.orthogonal(0.3), (4, 4), dtype=torch.float64)
    assert same_number(matrix @ matrix.mT, 0.09 * torch.eye(4, dtype=torch.float64))


def test_orthogonal_matrices_are_uniform():
    # The trace of a random orthogonal matrix has mean 0 and variance 1; without the signs of R's
    # diagonal it would be shifted.
    traces = torch.stack([drawn(init.orthogonal(), (3, 3), key=key).trace() for key in range(400)])
    assert same_statistics(traces, mean=0, std=1)


def test_identity_is_y_equals_x():
    x = torch.arange(6.0).reshape(2, 3)
    layer = lf.dense(3, weight_init=init.identity(), bias_init=init.zeros())
    assert same_number(layer.predict(layer.init(lf.Key(0), x), x), x)


@pytest.mark.parametrize(
    ("shape", "groups"), [((3, 3, 5), 1), ((2, 3, 3, 4), 1), ((6, 2, 3), 2), ((6, 2, 1, 3, 3), 3)]
)
def test_dirac_is_torchs(shape, groups):
    expected = torch.nn.init.dirac_(torch.empty(shape, dtype=torch.float64), groups)
    assert same_number(drawn(init.dirac(groups), shape), expected)


@pytest.mark.parametrize("sparsity", [0.0, 0.31, 0.5, 1.0])
def test_sparse_silences_a_share_of_each_output(sparsity):
    weight = drawn(init.sparse(sparsity, std=2.0), (40, 300))
    assert ((weight == 0).sum(0) == math.ceil(sparsity * 40)).all()
    silent = (weight == 0).double().mean(1)
    assert (silent - silent.mean()).abs().max() < 0.15
    if sparsity < 1:
        assert same_statistics(weight[weight != 0], mean=0, std=2.0)


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains_are_torchs(name):
    assert same_number(init.gain(name), torch.nn.init.calculate_gain(name))
    theirs = torch.nn.init.calculate_gain("leaky_relu", 0.3)
    assert same_number(init.gain("leaky_relu", 0.3), theirs)


def test_fans_of_a_dense_layer_are_its_inputs_and_outputs():
    x = torch.empty(1, 400)
    for initializer, variance in (
        (init.he_normal(), 2 / 400),
        (init.he_normal(mode="fan_out"), 2 / 30),
        (init.glorot_uniform(), 2 / 430),
    ):
        weight = lf.dense(30, weight_init=initializer).init(lf.Key(0), x).weight
        assert same_statistics(weight.flatten(), mean=0, std=math.sqrt(variance))


test_arguments_out_of_range_are_named = refusals("""
init.uniform(1.0, 0.0) -> ^uniform: expected low of at most high, got (1.0, 0.0)$
init.truncated_normal(low=2.0) -> ^truncated_normal: expected low below high, got (2.0, 2.0)$
drawn(init.orthogonal(), (3,)) -> ^orthogonal: expected a weight of at least 2 axes, got (3,)$
drawn(init.identity(), (3, 2, 1)) -> ^identity: expected a weight of 2 axes, got (3, 2, 1)$
drawn(init.sparse(0.5), (3,)) -> ^sparse: expected a weight of 2 axes, got (3,)$
drawn(init.dirac(2), (3, 2, 3)) -> ^dirac: expected a weight (out, in / groups, *kernel) whose out 2
    divides, got (3, 2, 3)$
drawn(init.dirac(), (3, 2)) -> ^dirac: expected a weight (out, in / groups, *kernel) whose out 1
    divides, got (3, 2)$
""")
