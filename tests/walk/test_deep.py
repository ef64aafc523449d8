"""Networks nested 200 and 300 deep: no function of the library meets Python's recursion limit."""

import cProfile
import pickle
import sys

import pytest
import torch
from helpers import MSE, Operations, assert_says, begin, same_bits, same_number

import lincoln_fn as lf

X = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.25, -0.5]], dtype=torch.float64)
DEPTHS = {"serial": (lf.serial, 300), "residual": (lf.residual, 200)}


@pytest.fixture
def new_process():
    """Have Python's own recursion limit, as in a new process."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


@pytest.fixture(params=DEPTHS)
def nested(request, new_process):
    """A network, its params, and how often x is added to y."""
    wrap, depth = DEPTHS[request.param]
    net = nest(wrap, depth)
    return net, net.init(lf.Key(0), X), depth if wrap is lf.residual else 0


def test_forward_backward_and_the_walks(nested):
    net, params, added = nested
    weight, bias = lf.tree.leaves(params)
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
    sites_dx, sites = lf.cotangents(net, params, cache, y)
    assert same_bits((sites_dx, lf.grads_at(net, params, sites)), (dx, dparams))


@pytest.mark.full
def test_summary_and_trace(nested):
    net, params, _ = nested
    found = lf.summary(net, X)
    assert found.total.parameters == 12
    assert "dense(3)" in str(found)
    dense = lf.inspect.trace(net, params, X, lf.losses.mse(), torch.zeros_like(X))[0]
    assert dense.name == "dense(3)"


def nest(wrap, depth):
    net = lf.dense(3)
    for _ in range(depth):
        net = wrap(net)
    return net


AROUND = {
    "checkpointed": lf.checkpointed,
    "constant": lf.constant,
    "frozen": lf.frozen,
    "graph": lambda inner: lf.graph(lambda v: v.apply(inner)),
    "ode": lambda inner: lf.ode(inner, steps=1),
    "residual": lf.residual,
    "scan": lambda inner: lf.scan(lf.serial(lf.select(0), inner), dim=0),
    "serial": lf.serial,
}


@pytest.mark.parametrize("around", AROUND)
def test_init_takes_operations_in_proportion_to_the_depth(around):
    counts = []
    for depth in (2, 4, 8):
        net = nest(lambda inner: lf.serial(AROUND[around](inner), lf.dense(3)), depth)
        x = X.expand(*([1] * depth if around == "scan" else []), 2, 3)
        with Operations() as operations:
            net.init(lf.Key(0), x)
        counts.append(len(operations.calls))
    two, four, eight = counts
    assert eight - four == 2 * (four - two)


@pytest.mark.full
def test_a_step_of_500_compositions_within_each_other():
    step, state = begin(nest(lf.residual, 500), X, MSE, lf.optim.adam())
    new, value = step(state, (X, X))
    assert new.step == 1
    y = step.net.predict(state.params, X)
    assert same_number(value, MSE.forward(y, X)[0], length=2**12)


@pytest.mark.parametrize("depth", [501, 10_000])
def test_more_are_refused_when_they_are_made(depth):
    assert_says("at most 500 compositions within each other, got 501", nest, lf.serial, depth)


def test_a_pickle_of_a_deep_network_has_room(new_process):
    net = nest(lf.residual, 300)
    params = net.init(lf.Key(0), X)
    assert same_bits(pickle.loads(pickle.dumps(net)).predict(params, X), net.predict(params, X))


def test_a_step_takes_calls_in_proportion_to_the_parts():
    counts = []
    for count in (10, 20, 40):
        step, state = begin(lf.serial(*[lf.dense(3)] * count), X, MSE, lf.optim.adam())
        state, _ = step(state, (X, X))
        with cProfile.Profile() as profile:
            step(state, (X, X))
        counts.append(sum(entry.callcount for entry in profile.getstats()))
    few, more, many = counts
    # In 50,000 calls, some are Python's own: of caches that grow, of weak references that end.
    assert many - more <= 2.05 * (more - few)
