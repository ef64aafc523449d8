"""Optimizers with the state of another, and gradients that are none."""

import torch

import lincoln_fn as lf
from helpers.wrong.given import KEY, NET, PARAMS, SGD, STATE, X, fit, step
from lincoln_fn import optim
from lincoln_fn.layers.dense import Params

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


ROWS = {
    "step: float64 gradients in plain sgd": (lambda: doubled(SGD), "sgd", "at 0.weight",
        "torch.float32", "torch.float64"),
    "step: float64 gradients in adam": (lambda: doubled(optim.adam()), "adam", "torch.float32",
        "torch.float64"),
    "sgd: adam's state": (lambda: mixed(SGD, optim.adam()), "sgd", "state ()", "AdamState", "init"),
    "sgd: momentum's state": (lambda: mixed(SGD, optim.sgd(0.1, 0.9)), "sgd", "state ()",
        "SgdState"),
    "sgd with momentum: no state": (lambda: mixed(optim.sgd(0.1, 0.9), SGD), "sgd", "SgdState",
        "()"),
    "sgd with momentum: adam's state": (lambda: mixed(optim.sgd(0.1, 0.9), optim.adam()), "sgd",
        "SgdState", "AdamState"),
    "sgd with momentum: a schedule's state": (lambda: mixed(optim.sgd(0.1, 0.9), optim.sgd(COSINE)),
        "sgd", "momentum"),
    "sgd with a schedule: no state": (lambda: mixed(optim.sgd(COSINE), SGD), "sgd", "SgdState",
        "()"),
    "sgd with a schedule: momentum's state": (lambda: mixed(optim.sgd(COSINE), optim.sgd(0.1, 0.9)),
        "sgd", "step"),
    "sgd with weight decay: adam's state": (
        lambda: mixed(optim.sgd(0.1, weight_decay=0.1), optim.adam()), "sgd", "state ()",
        "AdamState"),
    "adam: sgd's state": (lambda: mixed(optim.adam(), SGD), "adam", "AdamState", "()"),
    "adam: amsgrad's state": (lambda: mixed(optim.adam(), optim.adam(amsgrad=True)), "adam",
        "v_max"),
    "adam: no amsgrad's state": (lambda: mixed(optim.adam(amsgrad=True), optim.adam()), "adam",
        "v_max"),
    "radam: adam's state": (lambda: mixed(optim.radam(), optim.adam()), "radam", "RadamState",
        "AdamState"),
    "nadam: adam's state": (lambda: mixed(optim.nadam(), optim.adam()), "nadam", "NadamState",
        "AdamState"),
    "adam: radam's state": (lambda: mixed(optim.adam(), optim.radam()), "adam", "AdamState",
        "RadamState"),
    "adamax: adam's state": (lambda: mixed(optim.adamax(), optim.adam()), "adamax", "AdamaxState",
        "AdamState"),
    "lion: adam's state": (lambda: mixed(optim.lion(), optim.adam()), "lion", "LionState",
        "AdamState"),
    "rmsprop: adagrad's state": (lambda: mixed(optim.rmsprop(), optim.adagrad()), "rmsprop",
        "RmspropState", "AdagradState"),
    "rmsprop with momentum: plain state": (
        lambda: mixed(optim.rmsprop(momentum=0.9), optim.rmsprop()), "rmsprop", "momentum"),
    "rmsprop centered: plain state": (lambda: mixed(optim.rmsprop(centered=True), optim.rmsprop()),
        "rmsprop", "mean"),
    "rmsprop with a schedule: plain state": (lambda: mixed(optim.rmsprop(COSINE), optim.rmsprop()),
        "rmsprop", "step"),
    "adagrad: adam's state": (lambda: mixed(optim.adagrad(), optim.adam()), "adagrad",
        "AdagradState", "AdamState"),
    "adadelta: adam's state": (lambda: mixed(optim.adadelta(), optim.adam()), "adadelta",
        "AdadeltaState", "AdamState"),
    "asgd: adam's state": (lambda: mixed(optim.asgd(), optim.adam()), "asgd", "AsgdState",
        "AdamState"),
    "rprop: adam's state": (lambda: mixed(optim.rprop(), optim.adam()), "rprop", "RpropState",
        "AdamState"),
    "muon: lion's state": (
        lambda: mixed(optim.muon(), optim.lion(), torch.ones(2, 3), torch.ones(2, 3)), "muon",
        "MuonState", "LionState"),
    "chain: the inner state": (lambda: mixed(optim.chain(optim.ema(0.9), SGD), SGD), "ema",
        "EmaState", "()"),
    "accumulate: the inner state": (
        lambda: mixed(optim.chain(optim.accumulate(2), optim.adam()), optim.adam()), "accumulate",
        "AccumulateState", "AdamState"),
    "chain: another inner state": (
        lambda: mixed(optim.chain(optim.ema(0.9), optim.adam()), optim.chain(optim.ema(0.9), SGD)),
        "adam", "AdamState", "()"),
    "clip: adam's state in sgd": (
        lambda: mixed(optim.chain(optim.clip_by_value(1.0), SGD), optim.adam()), "sgd",
        "AdamState"),
    "by_path: a state alone": (lambda: mixed(optim.by_path({"*": optim.adam()}), optim.adam()),
        "by_path", "AdamState"),
    "by_path: states in another order": (lambda: mixed(
            optim.by_path({"*.weight": optim.adam(), "*": SGD}),
            optim.by_path({"*.weight": SGD, "*": optim.adam()})), "adam", "()"),
    "by_path: too few states": (
        lambda: mixed(optim.by_path({"*.weight": SGD, "*": SGD}), optim.by_path({"*": SGD})),
        "by_path", "2"),
    "step: adam's state in sgd": (lambda: stepped(SGD, optim.adam()), "sgd", "state ()",
        "AdamState"),
    "step: sgd's state in adam": (lambda: stepped(optim.adam(), SGD), "adam", "AdamState", "()"),
    "step: sgd's state in sgd with a schedule": (lambda: stepped(optim.sgd(COSINE), SGD), "sgd",
        "SgdState", "()"),
    "step: adam's state in adamw of radam": (lambda: stepped(optim.radam(), optim.adam()), "radam",
        "RadamState", "AdamState"),
    "step: momentum without its buffers": (lambda: stepped(optim.sgd(0.1, 0.9), SGD), "sgd",
        "SgdState", "()"),
    "fit: sgd's state in adam": (lambda: fit(optimizer=optim.adam(), state=STATE), "adam",
        "AdamState", "()"),
    "fit: adam's state in sgd": (lambda: fit(state=lf.init_state(NET, optim.adam(), KEY, X)), "sgd",
        "state ()", "AdamState"),
    "sgd: float64 gradients": (
        lambda: SGD.update(PARAMS, lf.tree.map(torch.Tensor.double, GRADS), ()), "sgd",
        "torch.float32", "torch.float64"),
    "adam: float64 gradients": (
        lambda: mixed(optim.adam(), optim.adam(), grads=lf.tree.map(torch.Tensor.double, GRADS)),
        "adam", "torch.float32", "torch.float64"),
    "sgd with momentum: float64 gradients": (lambda: mixed(optim.sgd(0.1, 0.9), optim.sgd(0.1, 0.9),
            grads=lf.tree.map(torch.Tensor.double, GRADS)), "sgd", "torch.float64"),
    "sgd: bool gradients": (lambda: SGD.update((torch.ones(2),), (torch.ones(2).bool(),), ()),
        "sgd", "torch.bool"),
    "sgd: gradients of another net": (lambda: SGD.update(PARAMS, ((), ()), ()), "sgd", "structure"),
    "sgd: gradients of another shape": (
        lambda: SGD.update(PARAMS, (Params(torch.zeros(4, 3), torch.zeros(4)), ()), ()), "sgd",
        "(3, 4)", "(4, 3)"),
    "sgd: no gradients": (lambda: SGD.update(PARAMS, None, ()), "sgd", "gradients"),
    "sgd: a number for a gradient": (lambda: SGD.update((torch.ones(2),), (1.0,), ()), "sgd",
        "gradient", "float"),
    "sgd: backward's pair for gradients": (lambda: SGD.update(PARAMS, (X, GRADS), ()), "sgd",
        "gradients"),
    "update: params and state swapped": (
        lambda: optim.adam().update(optim.adam().init(PARAMS), GRADS, PARAMS), "adam", "AdamState"),
    "adam: another net's state": (
        lambda: optim.adam().update(PARAMS, GRADS, optim.adam().init((torch.ones(2),))), "adam",
        "2 tensors"),
    "adam: a state of other shapes": (lambda: optim.adam().update(PARAMS, GRADS,
            optim.adam().init((Params(torch.ones(2, 4), torch.ones(4)), ()))), "adam", "(3, 4)",
        "(2, 4)"),
    "an optimizer with params and gradients swapped": (
        lambda: lf.Optimizer("mine()", SGD.init, lambda grads, params, state: (params, state)),
        "mine(): expected update(params, grads, state)", "update(grads, params, state)"),
    "an optimizer that returns the params alone": (lambda: step(optimizer=ALONE),
        "mine(): expected update to return (params, state), got params Params("),
    "an optimizer that returns a single layer's params alone": (
        lambda: step(lf.dense(4), lf.losses.softmax_cross_entropy(), ALONE),
        "expected update to return (params, state), got a Params"),
    "an optimizer that returns state and params": (
        lambda: step(optimizer=lf.Optimizer("mine()", SGD.init, lambda p, dp, state: (state, p))),
        "mine(): expected update to return (params, state), got params ()"),
    "ema_params: no ema": (lambda: optim.ema_params(optim.adam().init(PARAMS), PARAMS),
        "ema_params", "running mean"),
    "ema_params: swapped": (
        lambda: optim.ema_params(PARAMS, optim.chain(optim.ema(0.9), SGD).init(PARAMS)),
        "ema_params"),
}  # fmt: skip
