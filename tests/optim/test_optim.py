"""Optimizers: what a step does to parameters, gradients and states."""

import attrs
import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.layers import dense


@lf.record
class Running(lf.State):
    mean: torch.Tensor


@lf.record
class Params:
    weight: torch.Tensor
    running: Running
    bias: torch.Tensor | None = None


@pytest.mark.parametrize("lr", [0.5, 3e-3, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sgd_moves_each_leaf_against_its_gradient(lr, dtype):
    p, dp = normal(3, 4).to(dtype), normal(3, 4, seed=1).to(dtype)
    optimizer = lf.optim.sgd(lr)
    assert optimizer.init((p,)) == ()
    (moved,), state = optimizer.update((p,), (dp,), ())
    assert same_number(moved, p - lr * dp)
    assert moved.dtype is dtype
    assert state == ()


def test_sgd_is_torchs():
    p, dp = normal(3, 4).double(), normal(3, 4, seed=1).double()
    theirs = p.clone().requires_grad_()
    theirs.grad = dp.clone()
    torch.optim.SGD([theirs], lr=0.07).step()
    (ours,), _ = lf.optim.sgd(0.07).update((p,), (dp,), ())
    assert same_number(ours, theirs.detach())


def test_sgd_changes_nothing_in_place_and_hands_states_through():
    params = Params(normal(3), Running(normal(2)))
    grads = Params(normal(3, seed=1), Running(normal(2, seed=2)))
    leaves = lf.tree.leaves((params, grads), states=True)
    before = [(leaf._version, leaf.clone()) for leaf in leaves]
    new, _ = lf.optim.sgd(0.5).update(params, grads, ())
    assert new.running is params.running
    assert new.bias is None
    assert same_number(new.weight, params.weight - 0.5 * grads.weight)
    for (version, values), leaf in zip(before, leaves, strict=True):
        assert leaf._version == version
        assert same_bits(leaf, values)


def test_an_optimizer_is_the_code_that_makes_it():
    assert repr(lf.optim.sgd(0.003)) == "sgd(0.003)"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        lf.optim.sgd().name = "adam"


def test_a_users_optimizer_is_one_too():
    def update(params, grads, state):
        return lf.tree.map(lambda p, dp: p - dp.sign(), params, grads), state + 1

    optimizer = lf.Optimizer("sign()", init=lambda params: torch.tensor(0), update=update)
    x, target = normal(5, 3), torch.tensor([0, 1, 2, 1, 0])
    net = lf.serial(lf.dense(4), lf.log_softmax())
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    new, _ = lf.make_step(net, lf.losses.nll(), optimizer)(state, (x, target))
    assert isinstance(new.params[0], dense.Params)
    moved = (new.params[0].weight - state.params[0].weight).abs()
    assert same_number(moved, torch.ones(3, 4))
    assert new.opt_state == 1
