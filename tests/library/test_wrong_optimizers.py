"""Optimizers with the state of another, and gradients that are none."""

import re

import pytest
import torch
from helpers.given import PARAMS, SGD, misuses, step
from helpers.optimizers import RICH

import lincoln_fn as lf

GRADS = lf.tree.map(torch.ones_like, PARAMS)
ALONE = lf.Optimizer("mine()", SGD.init, lambda params, grads, state: params)
COSINE = lf.schedules.cosine(0.1, 10)


def mixed(optimizer, of, params=PARAMS, grads=GRADS):
    """Update by one optimizer with the state of another."""
    return optimizer.update(params, grads, of.init(params))


def doubled(optimizer):
    """Take a step with a layer of one's own, whose gradients are float64."""
    dense = lf.layers.dense

    def grads(params, cache, g):
        return lf.tree.map(torch.Tensor.double, dense.grads(params, cache, g))

    net = lf.serial(lf.dense(4).replace(name="mine()", grads=grads), lf.log_softmax())
    return step(net, optimizer=optimizer)


test_states_and_gradients_that_do_not_belong_are_named = misuses("""
doubled(SGD) -> ^sgd ... torch.float32 ... at 0.weight ... torch.float64
doubled(optim.adam()) -> ^adam ... torch.float32 ... torch.float64
fit(optimizer=optim.adam(), state=STATE) -> ^adam ... AdamState ... ()
fit(state=init_state(NET, optim.adam(), KEY, X)) -> ^sgd ... state () ... AdamState
SGD.update(PARAMS, tree.map(torch.Tensor.double, GRADS), ()) -> ^sgd ... torch.float32 ...
    torch.float64
mixed(optim.adam(), optim.adam(), grads=tree.map(torch.Tensor.double, GRADS)) -> ^adam ...
    torch.float32 ... torch.float64
SGD.update((torch.ones(2),), (torch.ones(2).bool(),), ()) -> ^sgd ... torch.bool
SGD.update(PARAMS, None, ()) -> ^sgd ... gradients
SGD.update((torch.ones(2),), (1.0,), ()) -> ^sgd ... gradient ... float
SGD.update(PARAMS, (X, GRADS), ()) -> ^sgd ... gradients
optim.adam().update(optim.adam().init(PARAMS), GRADS, PARAMS) -> ^adam ... AdamState
optim.adam().update(PARAMS, GRADS, optim.adam().init((torch.ones(2),))) -> ^adam ... 2 tensors
optim.adam().update(PARAMS, GRADS, optim.adam().init((layers.dense.Params(torch.ones(2, 4),
    torch.ones(4)), ()))) -> ^adam ... (3, 4) ... (2, 4)
Optimizer('mine()', SGD.init, lambda grads, params, state: (params, state)) -> ^mine(): expected
    update(params, grads, state) ... update(grads, params, state)
step(optimizer=ALONE) -> ^mine(): expected update to return (params, state), got params Params(
step(dense(4), losses.softmax_cross_entropy(), ALONE) -> expected update to return (params, state),
    got a Params
step(optimizer=Optimizer('mine()', SGD.init, lambda p, dp, state: (state, p))) -> ^mine(): expected
    update to return (params, state), got params ()
optim.ema_params(optim.adam().init(PARAMS), PARAMS) -> ^ema_params ... running mean
optim.ema_params(PARAMS, optim.chain(optim.ema(0.9), SGD).init(PARAMS)) -> ^ema_params
mixed(optim.adam(), SGD) -> ^adam: expected state AdamState, got (); init(params) makes one$
mixed(optim.sgd(0.1, 0.9), optim.sgd(COSINE)) -> ^sgd: expected state SgdState without step ... got
mixed(optim.adam(), optim.adam(amsgrad=True)) -> ^adam ... without v_max
mixed(optim.chain(optim.ema(0.9), optim.adam()), optim.chain(optim.ema(0.9), SGD)) -> ^adam ...
    AdamState ... ()
mixed(optim.by_path({'*.weight': SGD, '*': SGD}), optim.by_path({'*': SGD})) -> ^by_path ... 2
step(optimizer=optim.radam(), state=STATE) -> ^radam ... RadamState ... ()
""")
SGDS = [SGD, lf.optim.sgd(COSINE), lf.optim.sgd(0.1, 0.9)]
RMSPROPS = [lf.optim.rmsprop(), lf.optim.rmsprop(momentum=0.9), lf.optim.rmsprop(COSINE)]
STATES = [*RICH, *SGDS, *RMSPROPS, lf.optim.adam(), lf.optim.muon()]


@pytest.mark.parametrize("optimizer", STATES, ids=str)
def test_the_state_of_every_other_optimizer_is_refused_by_name(optimizer):
    """Each has a kind of its own, or other fields."""
    params = [torch.ones(3, 4)]
    others = [other.init(params) for other in STATES]
    own = optimizer.init(params)
    others = [state for state in others if not lf.tree.same_structure(state, own, states=True)]
    assert len(others) > 20
    for state in others:
        with pytest.raises(lf.LayerError) as caught:
            optimizer.update(params, params, state)
        said = re.fullmatch(
            r"(\w+): expected (.*), got .*; init\(params\) makes one", str(caught.value)
        )
        assert said[1] in optimizer.name
        kind = type(own).__name__
        assert said[2].startswith(("state", "a tuple of 2 states"))
        assert kind in said[2] or optimizer.name.startswith(("chain", "by_path")) or own == ()
