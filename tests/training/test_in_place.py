"""What a user's function changes in place while another one holds it: the step says who did it."""

import pytest
import torch
from helpers import CE, assert_same_steps, assert_says, begin, normal, same_bits
from helpers.refusals import refusals

import lincoln_fn as lf

X, T = normal(6, 3), torch.arange(6) % 4


@lf.record
class Factor:
    """The params of `doubling`."""

    of: torch.Tensor


def doubling(change):
    """Make a layer y = 2 x, whose forward first changes something in place."""

    def forward(params, x):
        change(params, x)
        return 2 * x, ()

    return lf.Layer(
        "mine()",
        forward,
        lambda params, cache, g: (2 * g, lf.tree.map(torch.zeros_like, params)),
        lambda key, x: Factor(torch.ones(x.shape[-1])),
    )


def changed_in_loss(prediction, target):
    value, cache = CE.forward(prediction, target)
    prediction.mul_(2)
    return value, cache


LOOPS = lf.serial().composition


def loop_there(visit, params, x):
    y, cache = LOOPS.there(visit, params, x)
    return y.mul_(2), cache


DOUBLED_OUTPUT = lf.walk.composition("doubled", (lf.tanh(),), loop_there, LOOPS.back)
TANH = lf.serial(lf.dense(4), lf.tanh())


def debugged(net, loss=CE):
    step, state = begin(net, X, loss, fast=False, debug=True)
    step(state, (X.clone(), T))


test_a_step_for_debugging_says_who_changes_what_in_place = refusals("""
debugged(serial(dense(4), tanh(), doubling(lambda params, x: x.add_(1)))) -> InPlaceError:
    ^serial[2] mine(): forward changed x in place, which others hold, too; make a new tensor
debugged(serial(tanh(), doubling(lambda params, x: x.add_(1).sub_(1)), dense(4))) -> InPlaceError:
    ^serial[1] mine(): forward changed x in place, which others hold, too; make a new tensor
debugged(serial(dense(4), doubling(lambda params, x: params.of.mul_(2)))) -> InPlaceError:
    ^serial[1] mine(): forward changed params.of in place, which others hold, too; make a new tensor
# a cache, by a loop
debugged(serial(dense(4), DOUBLED_OUTPUT)) -> InPlaceError: ^1.0 tanh(): its cache was changed in
    place between forward and backward
debugged(TANH, Loss('mine()', changed_in_loss, CE.backward)) -> InPlaceError: ^mine(): forward
    changed prediction in place, which others hold, too; make a new tensor
debugged(serial(dense(4), residual(tanh().replace(backward=lambda params, y, g: (g.mul_(1 - y**2),
    ()))))) -> InPlaceError: ^serial[1] residual[0] tanh(): backward changed g in place
""")


def decaying(params, grads, momentum):
    lf.tree.map(lambda m, dp: m.mul_(0.9).add_(dp), momentum, grads)
    return lf.tree.map(lambda p, m: p - 0.1 * m, params, momentum), momentum


def descending(params, grads, state):
    return lf.tree.map(lambda p, dp: p.sub_(0.1 * dp), params, grads), state


# By case: an optimizer that writes into what it was given, and the first leaf that it changes.
OPTIMIZERS = {
    "the state": (
        lambda params: lf.tree.map(torch.zeros_like, params), decaying, "state.opt_state.0.weight",
    ),
    "the params": (lambda params: (), descending, "state.params.0.weight"),
}  # fmt: skip


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("case", OPTIMIZERS)
def test_the_first_step_refuses_an_optimizer_that_writes_into_the_old_state(case, debug):
    init, update, path = OPTIMIZERS[case]
    optimizer = lf.Optimizer("mine()", init, update)
    given = begin(TANH, X, CE, optimizer, debug=debug)
    assert_says(f"^mine(): update changed {path} in place", *given, (X, T))


def test_a_later_step_is_only_looked_at_for_debugging():
    optimizer = lf.Optimizer("mine()", lambda params: (), descending)
    step, state = begin(TANH, X)
    state, _ = step(state, (X, T))
    lf.make_step(TANH, CE, optimizer)(state, (X, T))
    debugging = lf.make_step(TANH, CE, optimizer, debug=True)
    assert_says("^mine(): update changed state.params", debugging, state, (X, T))


@pytest.mark.parametrize("donate", [False, True])
def test_a_step_for_debugging_computes_what_others_do(donate):
    net = lf.serial(lf.dense(4), lf.batch_norm(), lf.dropout(0.5), lf.dense(4))
    (step, state), (debugging, _) = (
        begin(net, X, CE, lf.optim.adam(), donate=donate, debug=debug) for debug in (False, True)
    )
    assert_same_steps(debugging, step, state, *[(X, T)] * 3, same=same_bits)
