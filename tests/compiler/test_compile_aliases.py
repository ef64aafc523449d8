"""Compiled steps of states whose tensors share memory, or are changed between two calls."""

import threading

import pytest
import torch
from helpers.compare import same_number
from helpers.compiling import assert_compiles, compiles, remembering

import lincoln_fn as lf

# Compiled to the end where a state is donated; else the graph alone is looked at, and where one
# donated state holds its old values as another does.
WAYS = pytest.mark.parametrize("way", ["donated", "kept"], indirect=True)
X = lf.keys.normal(lf.Key(0), (6, 5))
TARGET = torch.tensor([0, 2, 1, 1, 2, 0])
LOSS = lf.losses.softmax_cross_entropy()
NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3))
pytestmark = [compiles, pytest.mark.full]


@pytest.fixture
def way(request):
    if request.param == "kept":
        request.getfixturevalue("uncompiled")
    return request.param == "donated"


def descended(params, grads):
    return lf.tree.map(lambda p, dp: p - 0.1 * dp, params, grads)


def keeping_last():
    """An optimizer whose state is the params before the update."""
    return lf.Optimizer("keeping_last()", lambda p: p, lambda p, dp, last: (descended(p, dp), p))


def keeping_views():
    """An optimizer whose state is a view of the first numbers of each parameter before it."""

    def of(params):
        return lf.tree.map(lambda p: p.reshape(-1)[:2], params)

    return lf.Optimizer("keeping_views()", of, lambda p, dp, last: (descended(p, dp), of(p)))


def swapping():
    """An optimizer that trades params and state at every step."""
    return lf.Optimizer(
        "swapping()",
        lambda params: lf.tree.map(lambda p: p + 1, params),
        lambda params, grads, other: (other, descended(params, grads)),
    )


def keeping_new():
    """An optimizer whose state is the new params themselves, one tensor in two places."""

    def update(params, grads, last):
        new = descended(params, grads)
        return new, new

    return lf.Optimizer("keeping_new()", lambda params: lf.tree.map(torch.clone, params), update)


@WAYS
@pytest.mark.parametrize("make", [keeping_last, keeping_views, swapping, keeping_new])
def test_an_old_value_that_the_new_state_holds_is_the_old_one(make, way, request):
    if make in (keeping_last, keeping_new):
        request.getfixturevalue("uncompiled")
    assert_compiles(NET, make(), X, TARGET, donate=way)


@WAYS
def test_a_weight_that_advance_keeps_is_that_of_before(way):
    net = lf.serial(remembering(), lf.dense(3))
    assert_compiles(net, lf.optim.sgd(0.1), X, TARGET, donate=way)


@WAYS
@pytest.mark.parametrize("share", ["a tensor", "memory"])
def test_two_leaves_that_share_memory_part_at_the_first_step(way, share):
    net, optimizer = (
        lf.serial(lf.dense(5), lf.tanh(), lf.dense(5), lf.dense(3)),
        lf.optim.sgd(0.1, momentum=0.9),
    )
    first = lf.init_state(net, optimizer, lf.Key(2), X)
    flat = lf.keys.normal(lf.Key(7), (30,))

    def state(weight, other, bias):
        a, tanh, b, last = first.params
        params = type(a)(weight, a.bias.clone()), tanh, type(b)(other, bias), last
        return lf.TrainState(params, optimizer.init(params), first.key, first.step)

    weights = [flat[:25].clone().view(5, 5) for _ in range(2)]
    apart = state(*weights, flat[25:].clone())
    if share == "a tensor":
        given = state(weights[0], weights[0], flat[25:].clone())
    else:
        given = state(weights[0], flat[:25].view(5, 5), flat[25:])
    wanted, _ = lf.make_step(net, LOSS, optimizer)(apart, (X, TARGET))
    step = lf.compile(lf.make_step(net, LOSS, optimizer, donate=way))
    new, _ = step(lf.tree.map(lambda t: t, given, states=True), (X, TARGET))
    assert same_number(new.params, wanted.params)


@WAYS
def test_a_tensor_changed_in_place_between_calls_spoils_no_later_one(way):
    net, optimizer = lf.dense(5), lf.optim.sgd(0.1)
    target = torch.tensor([0, 2, 1, 1, 2, 4])
    compiled = lf.compile(lf.make_step(net, LOSS, optimizer, donate=way))
    pure = lf.make_step(net, LOSS, optimizer)

    def twice(change):
        state = lf.init_state(net, optimizer, lf.Key(2), X)
        state, _ = compiled(state, (X, target))
        change(state.params.weight)
        expected = lf.tree.map(torch.clone, state, states=True)
        state, value = compiled(state, (X, target))
        wanted_state, wanted = pure(expected, (X, target))
        assert same_number(value, wanted)
        assert same_number(state.params.weight, wanted_state.params.weight)

    def double(weight):
        weight.data = weight.data + 1

    twice(lambda weight: None)
    twice(torch.Tensor.t_)
    twice(lambda weight: None)
    twice(double)
    twice(lambda weight: None)


def test_first_calls_of_two_threads_at_once():
    step = lf.make_step(NET, LOSS, lf.optim.sgd(0.1))
    state = lf.init_state(NET, lf.optim.sgd(0.1), lf.Key(2), X)
    wanted, _ = step(state, (X, TARGET))
    steps = [lf.compile(step) for _ in range(2)]
    found, start = [None, None], threading.Barrier(2)

    def run(i):
        start.wait()
        found[i] = steps[i](state, (X[: 6 - i], TARGET[: 6 - i]))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same_number(found[0][0].params[0].weight, wanted.params[0].weight)
    assert found[1] is not None


NARROW = {
    "1 by 1": (lf.serial(lf.conv2d(4, 1), lf.relu(), lf.flatten(), lf.dense(3)), (6, 2, 5, 4)),
    "one channel": (lf.serial(lf.conv2d(4, 3), lf.relu(), lf.flatten(), lf.dense(3)), (6, 1, 5, 4)),
    "one filter": (lf.serial(lf.conv2d(1, 3), lf.relu(), lf.flatten(), lf.dense(3)), (6, 2, 5, 4)),
    "one row": (lf.serial(lf.conv1d(3, 1), lf.tanh(), lf.flatten(), lf.dense(3)), (6, 1, 5)),
}


@pytest.mark.parametrize(
    ("name", "donate"), [*zip(NARROW, (False, True, False, True), strict=True)]
)
def test_one_kind_of_batch_is_compiled_once(name, donate):
    net, shape = NARROW[name]
    optimizer, x = lf.optim.sgd(0.1, momentum=0.9), lf.keys.normal(lf.Key(3), shape)
    compiled = lf.compile(lf.make_step(net, LOSS, optimizer, donate=donate))
    state = lf.init_state(net, optimizer, lf.Key(2), x)
    for _ in range(3):
        state, _ = compiled(state, (x, TARGET))
    assert len(compiled.run.graphs.kinds) == 1
