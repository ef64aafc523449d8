"""Optimizers with the state of another, and gradients that are none."""

from functools import partial

import torch

import lincoln_fn as lf
from helpers.wrong.given import KEY, NET, PARAMS, SGD, STATE, X, fit, step
from lincoln_fn import LayerError, optim
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


# An optimizer, another one whose state it gets, and what the error says.
MIXED = [
    (SGD, optim.adam(), "sgd", "state ()", "AdamState", "init"),
    (SGD, optim.sgd(0.1, 0.9), "sgd", "state ()", "SgdState"),
    (optim.sgd(0.1, 0.9), SGD, "sgd", "SgdState", "()"),
    (optim.sgd(0.1, 0.9), optim.adam(), "sgd", "SgdState", "AdamState"),
    (optim.sgd(0.1, 0.9), optim.sgd(COSINE), "sgd", "momentum"),
    (optim.sgd(COSINE), SGD, "sgd", "SgdState", "()"),
    (optim.sgd(COSINE), optim.sgd(0.1, 0.9), "sgd", "step"),
    (optim.sgd(0.1, weight_decay=0.1), optim.adam(), "sgd", "state ()", "AdamState"),
    (optim.adam(), SGD, "adam", "AdamState", "()"),
    (optim.adam(), optim.adam(amsgrad=True), "adam", "v_max"),
    (optim.adam(amsgrad=True), optim.adam(), "adam", "v_max"),
    (optim.adam(), optim.radam(), "adam", "AdamState", "RadamState"),
    (optim.rmsprop(), optim.adagrad(), "rmsprop", "RmspropState", "AdagradState"),
    (optim.rmsprop(momentum=0.9), optim.rmsprop(), "rmsprop", "momentum"),
    (optim.rmsprop(centered=True), optim.rmsprop(), "rmsprop", "mean"),
    (optim.rmsprop(COSINE), optim.rmsprop(), "rmsprop", "step"),
    *((getattr(optim, name)(), optim.adam(), name, f"{name.title()}State", "AdamState")
      for name in ("adadelta", "adagrad", "adamax", "asgd", "lion", "nadam", "radam", "rprop")),
    (optim.chain(optim.ema(0.9), SGD), SGD, "ema", "EmaState", "()"),
    (optim.chain(optim.accumulate(2), optim.adam()), optim.adam(),
     "accumulate", "AccumulateState", "AdamState"),
    (optim.chain(optim.ema(0.9), optim.adam()), optim.chain(optim.ema(0.9), SGD),
     "adam", "AdamState", "()"),
    (optim.chain(optim.clip_by_value(1.0), SGD), optim.adam(), "sgd", "AdamState"),
    (optim.by_path({"*": optim.adam()}), optim.adam(), "by_path", "AdamState"),
    (optim.by_path({"*.weight": optim.adam(), "*": SGD}),
     optim.by_path({"*.weight": SGD, "*": optim.adam()}), "adam", "()"),
    (optim.by_path({"*.weight": SGD, "*": SGD}), optim.by_path({"*": SGD}), "by_path", "2"),
]  # fmt: skip
STEPPED = [
    (SGD, optim.adam(), "sgd", "state ()", "AdamState"),
    (optim.adam(), SGD, "adam", "AdamState", "()"),
    (optim.sgd(COSINE), SGD, "sgd", "SgdState", "()"),
    (optim.radam(), optim.adam(), "radam", "RadamState", "AdamState"),
    (optim.sgd(0.1, 0.9), SGD, "sgd", "SgdState", "()"),
]  # fmt: skip

ROWS = {
    "step: float64 gradients in plain sgd": (
        lambda: doubled(SGD),
        "sgd", "at 0.weight", "torch.float32", "torch.float64",
    ),
    "step: float64 gradients in adam": (
        lambda: doubled(optim.adam()),
        "adam", "torch.float32", "torch.float64",
    ),
    "muon: lion's state": (
        lambda: mixed(optim.muon(), optim.lion(), torch.ones(2, 3), torch.ones(2, 3)),
        "muon", "MuonState", "LionState",
    ),
    "fit: sgd's state in adam": (
        lambda: fit(optimizer=optim.adam(), state=STATE),
        "adam", "AdamState", "()",
    ),
    "fit: adam's state in sgd": (
        lambda: fit(state=lf.init_state(NET, optim.adam(), KEY, X)),
        "sgd", "state ()", "AdamState",
    ),
    "sgd: float64 gradients": (
        lambda: SGD.update(PARAMS, lf.tree.map(torch.Tensor.double, GRADS), ()),
        LayerError, "sgd", "torch.float32", "torch.float64",
    ),
    "adam: float64 gradients": (
        lambda: mixed(optim.adam(), optim.adam(), grads=lf.tree.map(torch.Tensor.double, GRADS)),
        LayerError, "adam", "torch.float32", "torch.float64",
    ),
    "sgd: bool gradients": (
        lambda: SGD.update((torch.ones(2),), (torch.ones(2).bool(),), ()),
        LayerError, "sgd", "torch.bool",
    ),
    "sgd: no gradients": (lambda: SGD.update(PARAMS, None, ()), LayerError, "sgd", "gradients"),
    "sgd: a number for a gradient": (
        lambda: SGD.update((torch.ones(2),), (1.0,), ()),
        LayerError, "sgd", "gradient", "float",
    ),
    "sgd: backward's pair for gradients": (
        lambda: SGD.update(PARAMS, (X, GRADS), ()),
        LayerError, "sgd", "gradients",
    ),
    "update: params and state swapped": (
        lambda: optim.adam().update(optim.adam().init(PARAMS), GRADS, PARAMS),
        LayerError, "adam", "AdamState",
    ),
    "adam: another net's state": (
        lambda: optim.adam().update(PARAMS, GRADS, optim.adam().init((torch.ones(2),))),
        LayerError, "adam", "2 tensors",
    ),
    "adam: a state of other shapes": (
        lambda: optim.adam().update(
            PARAMS, GRADS, optim.adam().init((Params(torch.ones(2, 4), torch.ones(4)), ()))
        ),
        LayerError, "adam", "(3, 4)", "(2, 4)",
    ),
    "an optimizer with params and gradients swapped": (
        lambda: lf.Optimizer("mine()", SGD.init, lambda grads, params, state: (params, state)),
        LayerError, "mine(): expected update(params, grads, state)", "update(grads, params, state)",
    ),
    "an optimizer that returns the params alone": (
        lambda: step(optimizer=ALONE),
        LayerError, "mine(): expected update to return (params, state), got params Params(",
    ),
    "an optimizer that returns a single layer's params alone": (
        lambda: step(lf.dense(4), lf.losses.softmax_cross_entropy(), ALONE),
        LayerError, "expected update to return (params, state), got a Params",
    ),
    "an optimizer that returns state and params": (
        lambda: step(optimizer=lf.Optimizer("mine()", SGD.init, lambda p, dp, state: (state, p))),
        LayerError, "mine(): expected update to return (params, state), got params ()",
    ),
    "ema_params: no ema": (
        lambda: optim.ema_params(optim.adam().init(PARAMS), PARAMS),
        LayerError, "ema_params", "running mean",
    ),
    "ema_params: swapped": (
        lambda: optim.ema_params(PARAMS, optim.chain(optim.ema(0.9), SGD).init(PARAMS)),
        LayerError, "ema_params",
    ),
}  # fmt: skip

ROWS |= {
    f"{how.__name__}: {ours} with the state of {of}": (partial(how, ours, of), *words)
    for how, rows in ((mixed, MIXED), (stepped, STEPPED))
    for ours, of, *words in rows
}
