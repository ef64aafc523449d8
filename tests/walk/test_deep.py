"""Networks nested 200 and 300 deep: no function of the library meets Python's recursion limit."""

import sys

import pytest
import torch
from helpers.compare import same_bits, same_number

import lincoln_fn as lf

X = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.25, -0.5]], dtype=torch.float64)
DEPTHS = {"serial": (lf.serial, 300), "residual": (lf.residual, 200)}


@pytest.fixture(params=DEPTHS)
def nested(request):
    """A network, its params, those of the dense layer inside, and how often x is added to y."""
    wrap, depth = DEPTHS[request.param]
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # Python's own
    net = lf.dense(3)
    for _ in range(depth):
        net = wrap(net)
    params = net.init(lf.Key(0), X)
    weight, bias = lf.tree.leaves(params)
    yield net, params, (weight, bias), depth if wrap is lf.residual else 0
    sys.setrecursionlimit(before)


def test_forward_and_backward(nested):
    net, params, (weight, bias), added = nested
    y, cache = net.forward(params, X)
    assert same_number(y, X @ weight + bias + added * X)
    assert same_bits(net.predict(params, X), y)
    dx, dparams = net.backward(params, cache, y)
    assert same_number(dx, y @ weight.mT + added * y)
    dweight, dbias = lf.tree.leaves(dparams)
    assert same_number(dweight, X.mT @ y)
    assert same_number(dbias, y.sum(0))
    assert same_bits(net.input_grad(params, cache, y), dx)
    assert same_bits(net.grads(params, cache, y), dparams)


def test_walks(nested):
    net, params, _, _ = nested
    y, cache = net.forward(params, X)
    dx, sites = lf.cotangents(net, params, cache, y)
    expected_dx, expected = net.backward(params, cache, y)
    assert same_bits(dx, expected_dx)
    found = lf.tree.leaves(lf.grads_at(net, params, sites))
    assert same_bits(found, lf.tree.leaves(expected))


def test_summary_and_trace(nested):
    net, params, _, _ = nested
    found = lf.summary(net, X)
    assert found.total.parameters == 12
    assert "dense(3)" in str(found)
    dense = lf.inspect.trace(net, params, X, lf.losses.mse(), torch.zeros_like(X))[0]
    assert dense.name == "dense(3)"


@pytest.mark.parametrize("optimizer", [lf.optim.sgd(0.1), lf.optim.adam()], ids=str)
def test_a_step(nested, optimizer):
    net, _, _, _ = nested
    loss = lf.losses.mse()
    state = lf.init_state(net, optimizer, lf.Key(0), X)
    new, value = lf.make_step(net, loss, optimizer)(state, (X, X))
    y = net.predict(state.params, X)
    assert same_number(value, loss.forward(y, X)[0])
    pairs = zip(lf.tree.leaves(state.params), lf.tree.leaves(new.params), strict=True)
    assert not any(same_bits(before, after) for before, after in pairs)
