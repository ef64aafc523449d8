"""Rectified linear units whose slopes are trained, or drawn: prelu and rrelu."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.activation_formulas import VERSIONS
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number, same_statistics

import lincoln_fn as lf
from lincoln_fn import keys

in_both_versions = pytest.mark.parametrize("version", VERSIONS)


@in_both_versions
def test_prelu_takes_its_slope_at_0_and_keeps_its_dtype(version):
    x = torch.zeros(2, 3, dtype=torch.bfloat16)
    layer = VERSIONS[version](lf.prelu(3, init=0.5))
    params = layer.init(lf.Key(0), x.to("meta"))
    assert params.weight.tolist() == [0.5, 0.5, 0.5]
    dx, dparams = layer.backward(params, x, torch.ones_like(x))
    assert dx.tolist() == [[0.5] * 3] * 2
    assert dparams.weight.dtype is torch.bfloat16
    assert dparams.weight.tolist() == [0, 0, 0]


@in_both_versions
def test_prelu_takes_single_numbers_and_any_strides(version):
    layer = VERSIONS[version](lf.prelu(init=0.5))
    y, dx, dweight = numbers_of(layer, torch.tensor(-3.0), torch.tensor(2.0))
    assert (y.item(), dx.item(), dweight.tolist()) == (-1.5, 1.0, [-6.0])
    x, g = normal(2, 4, 3, 5), normal(2, 4, 3, 5, seed=1)
    four = VERSIONS[version](lf.prelu(4))
    straight = numbers_of(four, x, g)
    folded = numbers_of(four, x.to(memory_format=torch.channels_last), g.mT.contiguous().mT)
    assert same_number(folded, straight)


def numbers_of(layer, x, g):
    params = layer.init(lf.Key(0), x)
    y, cache = layer.forward(params, x)
    dx, dparams = layer.backward(params, cache, g)
    return y, dx, dparams.weight


def test_rrelu_draws_slopes_between_its_ends():
    x = -torch.ones(10_000)
    layer = lf.rrelu(0.2, 0.6)
    params = layer.init(lf.Key(3), x)
    y, cache = layer.forward(params, x)
    assert y.max() <= -0.2
    assert y.min() > -0.6
    assert same_statistics(y, mean=-0.4, std=0.4 / math.sqrt(12))
    dx, dparams = layer.backward(params, cache, 3 * torch.ones_like(x))
    assert same_number(dx, -3 * y)
    assert dparams is params


def test_rrelu_draws_anew_after_advance_and_not_before():
    x = normal(20)
    layer = lf.rrelu()
    params = layer.init(lf.Key(3), x)
    y, cache = layer.forward(params, x)
    assert same_bits(layer.forward(params, x)[0], y)
    following = layer.advance(params, cache)
    again = layer.forward(following, x)[0]
    assert same_bits(again[x > 0], y[x > 0])
    assert (again[x < 0] != y[x < 0]).all()
    assert same_number(layer.predict(params, x), F.rrelu(x))
    zeros = layer.forward(params, torch.zeros(20))[1]
    assert zeros.max() < 1 / 3
    assert layer.forward(params, x.bfloat16())[0].dtype is torch.bfloat16


def test_random_slopes_differ_by_key():
    x = -torch.ones(50)
    first, second = (lf.rrelu().init(key, x).key.bits for key in keys.Key(0).split())
    assert first != second
