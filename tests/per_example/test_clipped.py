"""DP-SGD: steps whose gradient is clipped example by example."""

import pytest
import torch
from helpers import begin, normal, same_bits, same_number, same_statistics
from helpers.cases.case import cast
from helpers.one_by_one import norms_of, one_by_one
from helpers.refusals import assert_says, refusals

import lincoln_fn as lf
from lincoln_fn import keys, per_example

X = keys.normal(lf.Key(1), (6, 3))
TARGET = X.argmax(1)
NET = lf.serial(lf.dense(5), lf.tanh(), lf.layer_norm(), lf.dense(3))


def own_gradients(net, params, x):
    """Compute the gradient of each example's own loss."""
    loss = lf.losses.softmax_cross_entropy(reduction="sum")
    prediction, cache = net.forward(params, x)
    return one_by_one(net, params, cache, loss.backward(loss.forward(prediction, TARGET)[1]))


def computed(net, params, gradient, reduction="mean", key=0, x=X):
    loss = lf.losses.softmax_cross_entropy(reduction=reduction)
    prediction, cache = net.forward(params, x)
    g = loss.backward(loss.forward(prediction, TARGET)[1])
    dparams, state = gradient.compute(net, params, cache, g, (), lf.Key(key))
    assert state == ()
    return dparams


@pytest.mark.parametrize("make", [lambda layer: layer, lf.fast], ids=["formula", "fast"])
@pytest.mark.parametrize(("options", "divisor"), [
    ({}, 6), ({"reduction": "sum"}, 1), ({"batch_size": 8}, 8),
    ({"batch_size": 8, "reduction": "sum"}, 8),
])  # fmt: skip
def test_each_example_is_clipped(options, divisor, make):
    x, net = X.double(), make(NET)
    params = cast(NET.init(lf.Key(2), X))
    each = own_gradients(net, params, x)
    norms = norms_of(each).sqrt()
    max_norm = norms.median().item() + 1e-3
    assert 0 < (norms > max_norm).sum() < len(X)
    gradient = per_example.clipped(max_norm, **options)
    found = computed(net, params, gradient, options.get("reduction", "mean"), x=x)
    kept = (max_norm / norms).clamp(max=1) / divisor
    assert same_number(found, lf.tree.map(lambda d: torch.einsum("n,n...->...", kept, d), each))


def test_an_example_without_a_gradient_stays_zero():
    net = lf.dense(3, bias=False)
    params, x = net.init(lf.Key(2), X), X.clone()
    x[0] = 0
    dparams = computed(net, params, per_example.clipped(0.1), x=x)
    assert all(leaf.isfinite().all() for leaf in lf.tree.leaves(dparams))


def test_noise_has_its_size_and_comes_from_the_key():
    net = lf.serial(lf.dense(300), lf.tanh(), lf.dense(3))
    params = net.init(lf.Key(2), X)
    still = computed(net, params, per_example.clipped(0.5, batch_size=4))
    gradient = per_example.clipped(0.5, noise=3.0, batch_size=4)
    noisy = computed(net, params, gradient)
    noise = lf.tree.map(torch.sub, noisy, still)
    drawn = torch.cat([leaf.flatten() for leaf in lf.tree.leaves(noise)])
    assert same_statistics(drawn, mean=0, std=3.0 * 0.5 / 4)
    assert len(drawn.unique()) > 0.99 * len(drawn)  # another number for each leaf and each place
    again, other = computed(net, params, gradient), computed(net, params, gradient, key=1)
    assert same_bits(again[0].weight, noisy[0].weight)
    assert not same_number(other[0].weight, noisy[0].weight)


test_wrong_arguments_are_refused = refusals("""
per_example.clipped(0.0) -> ^clipped: expected max_norm above 0
per_example.clipped(1.0, noise=-1.0) -> ^clipped: expected noise of at least 0
per_example.clipped(1.0, reduction='none') -> ^clipped: expected reduction
per_example.clipped(1.0, batch_size=0) -> ^clipped: expected batch_size
""")


def test_a_step_refuses_batch_norm_by_its_position():
    net, loss = lf.serial(lf.dense(4), lf.batch_norm()), lf.losses.softmax_cross_entropy()
    step, state = begin(net, X, loss, gradient=per_example.clipped(1.0))
    assert_says("^serial[1] batch_norm(): expected a layer that", step, state, (X, TARGET))


@pytest.mark.parametrize("make", [lf.per_example.clipped, lf.curvature.kfac])
def test_a_loss_of_another_reduction_is_refused(make):
    loss, optimizer = lf.losses.mse(reduction="sum"), lf.optim.sgd(0.1)
    with pytest.raises(lf.LayerError, match="expected a loss with reduction='mean', got mse"):
        lf.make_step(lf.dense(1), loss, optimizer, gradient=make(1.0))
    lf.make_step(lf.dense(1), loss, optimizer, gradient=make(1.0, reduction="sum"))


# A batch without examples: Poisson sampling draws one now and then.


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
