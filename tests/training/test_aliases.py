"""Steps of states whose tensors share memory, or are changed between two calls."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import CE, assert_same_steps, begin, copied, same_number, taken
from helpers.compiling import T, X, compiles, compiles_in_full, remembering

import lincoln_fn as lf

COMPILED = [pytest.param(way, marks=[compiles, pytest.mark.full]) for way in ("donated", "kept")]
# Eager and compiled steps that update their state in place, and the graph of one that keeps it.
each_way = pytest.mark.parametrize("way", ["eager", *COMPILED], indirect=True)
BATCH = X, T
NET = lf.serial(lf.dense(5, bias=False), lf.tanh(), lf.dense(5), lf.dense(3))
OPTIMIZERS = [lf.optim.sgd(0.1), lf.optim.sgd(0.1, momentum=0.9), lf.optim.adamw(0.01)]


@pytest.fixture
def way(request):
    if request.param == "kept":
        request.getfixturevalue("uncompiled")
    return request.param


def assert_steps_are_those_of_a_copy(way, net, optimizer, state=None, gradient=None):
    step, first = begin(net, X, CE, optimizer, gradient=gradient, donate=way != "kept")
    pure = lf.make_step(net, CE, optimizer, gradient=gradient)
    run = step if way == "eager" else lf.compile(step)
    assert_same_steps(run, pure, state or first, *[BATCH] * 3)


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
    return lf.Optimizer("keeping_new()", copied, lambda p, dp, last: (descended(p, dp),) * 2)


@each_way
@pytest.mark.parametrize("make", [keeping_last, keeping_views, swapping, keeping_new])
def test_an_old_value_that_the_new_state_holds_is_the_old_one(make, way, request):
    if make in (keeping_last, keeping_new):
        request.getfixturevalue("uncompiled")
    assert_steps_are_those_of_a_copy(way, NET, make())


@each_way
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_a_weight_that_advance_keeps_is_that_of_before(way, optimizer):
    assert_steps_are_those_of_a_copy(way, lf.serial(remembering(), lf.dense(3)), optimizer)


def sharing(share):
    """Make two weights and a bias, of which some are one tensor, or lie in one."""
    flat = lf.keys.normal(lf.Key(7), (30,))
    weight, bias = flat[:25].view(5, 5), flat[25:]
    return {
        "a tensor": (weight, weight, bias.clone()),
        "a storage": (weight.clone(), weight, bias),
        "memory": (weight, flat[5:].view(5, 5), bias.clone()),
    }[share]


@each_way
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("share", ["a tensor", "a storage", "memory"])
def test_parameters_that_share_memory_part_at_the_first_step(way, optimizer, share):
    first = lf.init_state(NET, optimizer, lf.Key(2), X)
    (a, tanh, b, last), (weight, other, bias) = first.params, sharing(share)
    params = lf.evolve(a, weight=weight), tanh, lf.evolve(b, weight=other, bias=bias), last
    assert_steps_are_those_of_a_copy(way, NET, optimizer, lf.evolve(first, params=params))


@lf.record
class Before:
    """The params of the step before."""

    params: object


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_params_that_a_gradient_keeps_are_those_of_before(optimizer):
    def compute(net, params, cache, g, state, key):
        return net.grads(params, cache, g), Before(params)

    gradient = lf.Gradient("keeping()", compute, lambda net, params: Before(params))
    assert_steps_are_those_of_a_copy("eager", NET, optimizer, gradient=gradient)


@pytest.mark.parametrize("way", COMPILED, indirect=True)
def test_a_tensor_changed_in_place_between_calls_spoils_no_later_one(way):
    step, first = begin(lf.dense(5), X, donate=way == "donated")
    compiled, pure = lf.compile(step), lf.make_step(step.net, CE, step.optimizer)

    def double(weight):
        weight.data = weight.data + 1

    def leave(weight):
        pass

    for change in (leave, torch.Tensor.t_, leave, double, leave):
        state, _ = compiled(copied(first), BATCH)
        change(state.params.weight)
        assert_same_steps(compiled, pure, state, BATCH)


@compiles_in_full
def test_first_calls_of_two_threads_at_once():
    step, state = begin(NET, X)
    start = threading.Barrier(2)

    def run(rows):
        compiled = lf.compile(step)
        start.wait()
        return compiled(state, (X[:rows], T[:rows]))

    with ThreadPoolExecutor(2) as threads:
        given, other = threads.map(run, (6, 5))
    assert same_number(given, step(state, BATCH))
    assert other is not None


NARROW = {
    "1 by 1": (lf.serial(lf.conv2d(4, 1), lf.relu(), lf.flatten(), lf.dense(3)), (6, 2, 5, 4)),
    "one channel": (lf.serial(lf.conv2d(4, 3), lf.relu(), lf.flatten(), lf.dense(3)), (6, 1, 5, 4)),
    "one filter": (lf.serial(lf.conv2d(1, 3), lf.relu(), lf.flatten(), lf.dense(3)), (6, 2, 5, 4)),
    "one row": (lf.serial(lf.conv1d(3, 1), lf.tanh(), lf.flatten(), lf.dense(3)), (6, 1, 5)),
}


@compiles_in_full
@pytest.mark.parametrize(
    ("name", "donate"), [*zip(NARROW, (False, True, False, True), strict=True)]
)
def test_one_kind_of_batch_is_compiled_once(name, donate):
    net, shape = NARROW[name]
    x = lf.keys.normal(lf.Key(3), shape)
    step, state = begin(net, x, CE, OPTIMIZERS[1], donate=donate)
    compiled = lf.compile(step)
    taken(compiled, state, *[(x, T)] * 3)
    assert len(compiled.run.graphs.kinds) == 1
