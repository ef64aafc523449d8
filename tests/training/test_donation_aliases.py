"""An eager step that may update its state in place, where tensors of the state share memory."""

import pytest
import torch
from helpers.compare import same_number
from helpers.compiling import remembering

import lincoln_fn as lf

X = lf.keys.normal(lf.Key(0), (6, 5))
TARGET = torch.tensor([0, 2, 1, 1, 2, 0])
LOSS = lf.losses.softmax_cross_entropy()
NET = lf.serial(lf.dense(5, bias=False), lf.tanh(), lf.dense(5, bias=False), lf.dense(3))
OPTIMIZERS = [lf.optim.sgd(0.1), lf.optim.sgd(0.1, momentum=0.9), lf.optim.adamw(0.01)]
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)


def two_weights(share):
    """Make two weights that are one tensor, or that overlap within one."""
    flat = lf.keys.normal(lf.Key(7), (30,))
    if share == "a tensor":
        weight = flat[:25].view(5, 5)
        return weight, weight
    return flat[:25].view(5, 5), flat[5:].view(5, 5)


def assert_steps_are_those_of_a_copy(net, optimizer, state, gradient=None):
    copy = lf.tree.map(torch.clone, state, states=True)
    donated = lf.make_step(net, LOSS, optimizer, donate=True, gradient=gradient)
    pure = lf.make_step(net, LOSS, optimizer, gradient=gradient)
    for _ in range(3):
        state, value = donated(state, (X, TARGET))
        copy, wanted = pure(copy, (X, TARGET))
        assert same_number((state, value), (copy, wanted))


@each_optimizer
@pytest.mark.parametrize("share", ["a tensor", "memory"])
def test_two_parameters_that_share_memory_part_at_the_first_step(optimizer, share):
    params = NET.init(lf.Key(2), X)
    weights = two_weights(share)
    params = (
        lf.evolve(params[0], weight=weights[0]), (), lf.evolve(params[2], weight=weights[1]),
        params[3],
    )  # fmt: skip
    first = lf.init_state(NET, optimizer, lf.Key(2), X)
    state = lf.evolve(first, params=params)
    assert_steps_are_those_of_a_copy(NET, optimizer, state)


@each_optimizer
def test_a_weight_that_advance_keeps_is_that_of_before(optimizer):
    net = lf.serial(remembering(), lf.dense(3))
    state = lf.init_state(net, optimizer, lf.Key(2), X)
    assert_steps_are_those_of_a_copy(net, optimizer, state)


@lf.record
class Before:
    """The params of the step before."""

    params: object


@each_optimizer
def test_params_that_a_gradient_keeps_are_those_of_before(optimizer):
    def compute(net, params, cache, g, state, key):
        return net.grads(params, cache, g), Before(params)

    gradient = lf.Gradient("keeping()", compute, lambda net, params: Before(params))
    state = lf.init_state(NET, optimizer, lf.Key(2), X, gradient=gradient)
    assert_steps_are_those_of_a_copy(NET, optimizer, state, gradient)
