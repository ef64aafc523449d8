"""Optimizers with the state of another, and gradients that are none."""

import torch
from helpers import given
from helpers.given import KEY, NET, PARAMS, SGD, X, step
from helpers.refusals import refusals

import lincoln_fn as lf

GRADS = lf.tree.map(torch.ones_like, PARAMS)
ALONE = lf.Optimizer("mine()", SGD.init, lambda params, grads, state: params)
COSINE = lf.schedules.cosine(0.1, 10)


def mixed(optimizer, of, params=PARAMS, grads=GRADS):
    """Update by one optimizer with the state of another."""
    return optimizer.update(params, grads, of.init(params))


def stepped(optimizer, of):
    return step(optimizer=optimizer, state=lf.init_state(NET, of, KEY, X))


def doubled(optimizer):
    """Take a step with a layer of one's own, whose gradients are float64."""
    dense = lf.layers.dense

    def grads(params, cache, g):
        return lf.tree.map(torch.Tensor.double, dense.grads(params, cache, g))

    net = lf.serial(lf.dense(4).replace(name="mine()", grads=grads), lf.log_softmax())
    return step(net, optimizer=optimizer)


test_the_state_of_another_optimizer_is_named = refusals(
    """
doubled(SGD) -> ^sgd ... torch.float32 ... at 0.weight ... torch.float64
doubled(optim.adam()) -> ^adam ... torch.float32 ... torch.float64
mixed(optim.muon(), optim.lion(), torch.ones(2, 3), torch.ones(2, 3)) -> ^muon ... MuonState ...
    LionState
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
mixed(SGD, optim.adam()) -> ^sgd ... state () ... AdamState ... init
mixed(SGD, optim.sgd(0.1, 0.9)) -> ^sgd ... state () ... SgdState
mixed(optim.sgd(0.1, 0.9), SGD) -> ^sgd ... SgdState ... ()
mixed(optim.sgd(0.1, 0.9), optim.adam()) -> ^sgd ... SgdState ... AdamState
mixed(optim.sgd(0.1, 0.9), optim.sgd(COSINE)) -> ^sgd ... momentum
mixed(optim.sgd(COSINE), SGD) -> ^sgd ... SgdState ... ()
mixed(optim.sgd(COSINE), optim.sgd(0.1, 0.9)) -> ^sgd ... step
mixed(optim.sgd(0.1, weight_decay=0.1), optim.adam()) -> ^sgd ... state () ... AdamState
mixed(optim.adam(), SGD) -> ^adam ... AdamState ... ()
mixed(optim.adam(), optim.adam(amsgrad=True)) -> ^adam ... v_max
mixed(optim.adam(amsgrad=True), optim.adam()) -> ^adam ... v_max
mixed(optim.adam(), optim.radam()) -> ^adam ... AdamState ... RadamState
mixed(optim.rmsprop(), optim.adagrad()) -> ^rmsprop ... RmspropState ... AdagradState
mixed(optim.rmsprop(momentum=0.9), optim.rmsprop()) -> ^rmsprop ... momentum
mixed(optim.rmsprop(centered=True), optim.rmsprop()) -> ^rmsprop ... mean
mixed(optim.rmsprop(COSINE), optim.rmsprop()) -> ^rmsprop ... step
mixed(optim.adadelta(), optim.adam()) -> ^adadelta ... AdadeltaState ... AdamState
mixed(optim.adagrad(), optim.adam()) -> ^adagrad ... AdagradState ... AdamState
mixed(optim.adamax(), optim.adam()) -> ^adamax ... AdamaxState ... AdamState
mixed(optim.asgd(), optim.adam()) -> ^asgd ... AsgdState ... AdamState
mixed(optim.lion(), optim.adam()) -> ^lion ... LionState ... AdamState
mixed(optim.nadam(), optim.adam()) -> ^nadam ... NadamState ... AdamState
mixed(optim.radam(), optim.adam()) -> ^radam ... RadamState ... AdamState
mixed(optim.rprop(), optim.adam()) -> ^rprop ... RpropState ... AdamState
mixed(optim.chain(optim.ema(0.9), SGD), SGD) -> ^ema ... EmaState ... ()
mixed(optim.chain(optim.accumulate(2), optim.adam()), optim.adam()) -> ^accumulate ...
    AccumulateState ... AdamState
mixed(optim.chain(optim.ema(0.9), optim.adam()), optim.chain(optim.ema(0.9), SGD)) -> ^adam ...
    AdamState ... ()
mixed(optim.chain(optim.clip_by_value(1.0), SGD), optim.adam()) -> ^sgd ... AdamState
mixed(optim.by_path({'*': optim.adam()}), optim.adam()) -> ^by_path ... AdamState
mixed(optim.by_path({'*.weight': optim.adam(), '*': SGD}), optim.by_path({'*.weight': SGD, '*':
    optim.adam()})) -> ^adam ... ()
mixed(optim.by_path({'*.weight': SGD, '*': SGD}), optim.by_path({'*': SGD})) -> ^by_path ... 2
stepped(SGD, optim.adam()) -> ^sgd ... state () ... AdamState
stepped(optim.adam(), SGD) -> ^adam ... AdamState ... ()
stepped(optim.sgd(COSINE), SGD) -> ^sgd ... SgdState ... ()
stepped(optim.radam(), optim.adam()) -> ^radam ... RadamState ... AdamState
stepped(optim.sgd(0.1, 0.9), SGD) -> ^sgd ... SgdState ... ()
""",
    vars(given) | globals(),
)
