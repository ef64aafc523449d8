"""What a user's function changes in place while another one holds it: the step says who did it."""

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits

import lincoln_fn as lf
from lincoln_fn import LayerError, losses

X, T = normal(6, 3), torch.arange(6) % 4
SGD, CE = lf.optim.sgd(0.1), losses.softmax_cross_entropy()
IN_X = "forward changed x in place, which others hold, too; make a new tensor"


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


def loop_there(visit, params, x):
    y, cache = visit(0, params[0], x)
    y.mul_(2)
    return y, (cache,)


def loop_back(visit, params, cache, g):
    dx, dparams = visit(0, params[0], cache[0], 2 * g)
    return dx, (dparams,)


DOUBLED_OUTPUT = lf.walk.composition("doubled", (lf.tanh(),), loop_there, loop_back)
TANH = lf.serial(lf.dense(4), lf.tanh())

# By case: a net and a loss, and what a step says from its first call on.
NETS = {
    "x, which the layer before has cached": (
        lf.serial(lf.dense(4), lf.tanh(), doubling(lambda params, x: x.add_(1))), CE,
        f"serial[2] mine(): {IN_X}",
    ),
    "x, and back": (
        lf.serial(lf.tanh(), doubling(lambda params, x: x.add_(1).sub_(1)), lf.dense(4)), CE,
        f"serial[1] mine(): {IN_X}",
    ),
    "params": (
        lf.serial(lf.dense(4), doubling(lambda params, x: params.of.mul_(2))), CE,
        f"serial[1] mine(): {IN_X}".replace(" x ", " params.of ", 1),
    ),
    "a cache, by a loop": (
        lf.serial(lf.dense(4), DOUBLED_OUTPUT), CE,
        "1.0 tanh(): its cache was changed in place between forward and backward",
    ),
    "the prediction, by a loss": (
        TANH, lf.Loss("mine()", changed_in_loss, CE.backward),
        f"mine(): {IN_X}".replace(" x ", " prediction ", 1),
    ),
    "g": (
        lf.serial(lf.dense(4), lf.residual(lf.tanh().replace(
            backward=lambda params, y, g: (g.mul_(1 - y**2), ())
        ))), CE,
        "serial[1] residual[0] tanh(): backward changed g in place",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NETS)
def test_a_step_for_debugging_says_who_changes_what_in_place(case):
    net, loss, said = NETS[case]
    state = lf.init_state(net, SGD, lf.Key(0), X)
    step = lf.make_step(net, loss, SGD, fast=False, debug=True)
    with pytest.raises(LayerError) as caught:
        step(state, (X.clone(), T))
    assert str(caught.value).startswith(said)


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
    state = lf.init_state(TANH, optimizer, lf.Key(0), X)
    with pytest.raises(LayerError) as caught:
        lf.make_step(TANH, CE, optimizer, debug=debug)(state, (X, T))
    assert str(caught.value).startswith(f"mine(): update changed {path} in place")


def test_a_later_step_is_only_looked_at_for_debugging():
    optimizer = lf.Optimizer("mine()", lambda params: (), descending)
    state = lf.init_state(TANH, SGD, lf.Key(0), X)
    state, _ = lf.make_step(TANH, CE, SGD)(state, (X, T))
    lf.make_step(TANH, CE, optimizer)(state, (X, T))
    with pytest.raises(LayerError, match=r"^mine\(\): update changed state\.params"):
        lf.make_step(TANH, CE, optimizer, debug=True)(state, (X, T))


@pytest.mark.parametrize("donate", [False, True])
def test_a_step_for_debugging_computes_what_others_do(donate):
    net, adam = (
        lf.serial(lf.dense(4), lf.batch_norm(), lf.dropout(0.5), lf.dense(4)),
        lf.optim.adam(),
    )
    states = [lf.init_state(net, adam, lf.Key(0), X) for _ in range(2)]
    for _ in range(3):
        states = [
            lf.make_step(net, CE, adam, donate=donate, debug=debug)(state, (X, T))[0]
            for debug, state in zip((False, True), states, strict=True)
        ]
    assert same_bits(*states)
