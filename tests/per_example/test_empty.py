"""A batch without examples: Poisson sampling draws one now and then."""

import pytest
import torch
from helpers import assert_says, normal, same_bits

import lincoln_fn as lf
from lincoln_fn import per_example

TOKENS = torch.tensor([[1, 2, 0], [3, 3, 6]])
LAYERS = {
    "dense": (lf.dense(3), normal(4, 2)),
    "conv2d": (lf.conv2d(4, 3, groups=2), normal(2, 2, 6, 5)),
    "one position": (lf.conv2d(4, 3), normal(2, 2, 3, 3)),
    "conv_transpose2d": (lf.conv_transpose2d(4, 3), normal(2, 2, 4, 3)),
    "embedding": (lf.embedding(7, 4), TOKENS),
    "prelu": (lf.prelu(4), normal(3, 4, 2)),
    "layer_norm": (lf.layer_norm(), normal(3, 4)),
    "group_norm": (lf.group_norm(2), normal(3, 4, 5)),
    "lstm": (lf.lstm(3), normal(3, 4, 2)),
    "tied": (lf.tied(lf.embedding(7, 4), lf.dense(4)), TOKENS),
}


def empty(name, fast):
    net, x = LAYERS[name]
    params = net.init(lf.Key(0), x)
    net = lf.fast(net) if fast else net
    y, cache = net.forward(params, x[:0])
    return net, params, cache, torch.zeros_like(y)


@pytest.mark.parametrize("fast", [False, True], ids=["formula", "fast"])
@pytest.mark.parametrize("name", LAYERS)
def test_no_examples_have_no_gradients_and_a_sum_of_zero(name, fast):
    given = empty(name, fast)
    params = given[1]
    for each, p in zip(
        lf.tree.leaves(per_example.gradients(*given)), lf.tree.leaves(params), strict=True
    ):
        assert each.shape == (0, *p.shape)
    assert per_example.squared_norms(*given).shape == (0,)
    total = per_example.weighted_sum(*given, torch.zeros(0))
    noiseless, _ = per_example.clipped(1.0, batch_size=4).compute(*given, (), lf.Key(0))
    for tree in (total, noiseless):
        assert not any(leaf.any() for leaf in lf.tree.leaves(tree))


def test_an_empty_batch_gets_noise_if_the_expected_size_is_known():
    given = empty("dense", fast=False)
    noisy, _ = per_example.clipped(1.0, noise=2.0, batch_size=4).compute(*given, (), lf.Key(0))
    x = normal(4, 2)
    y, cache = LAYERS["dense"][0].forward(given[1], x)
    full = given[0], given[1], cache, torch.zeros_like(y)
    expected, _ = per_example.clipped(1.0, noise=2.0, batch_size=4).compute(*full, (), lf.Key(0))
    assert same_bits(noisy.weight, expected.weight)


def clipped(*given):
    return per_example.clipped(1.0).compute(*given, (), lf.Key(0))


@pytest.mark.parametrize("function", [per_example.second_moment, per_example.variance, clipped])
def test_a_mean_over_no_examples_is_refused(function):
    given = empty("dense", fast=False)
    assert_says(f"{function.__name__}: expected at least one example", function, *given)
