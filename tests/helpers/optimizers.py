"""Optimizers beside torch's, with params to update."""

from functools import partial

import attrs
import torch

import lincoln_fn as lf
from lincoln_fn import keys, optim, schedules
from lincoln_fn.core.record import State, record

T = torch.optim


@record
class Running(State):
    mean: torch.Tensor


@record
class Layer:
    weight: torch.Tensor
    bias: torch.Tensor | None
    state: Running | None = None


def parameters(dtype, scale=1.0, seed=0):
    """Leaves of different shapes, a bias that is None, a leaf without axes, and a State."""

    def draw(i, *shape):
        return keys.normal(lf.Key(seed).fold_in(i), shape, std=scale, dtype=dtype)

    return (
        Layer(draw(0, 3, 4), draw(1, 4)),
        (),
        Layer(draw(2, 5, 2, 3, 3), None, Running(torch.ones(4, dtype=dtype))),
        {"gain": draw(3)},
    )


def matrices(dtype, seed=0):
    return [
        keys.normal(lf.Key(seed).fold_in(i), shape, dtype=dtype)
        for i, shape in enumerate([(3, 5), (6, 2), (4, 4)])
    ]


def beside_torchs(options_by_name):
    """Rows of ours, torch's, and the options of both."""
    return [
        (getattr(optim, name.lower()), getattr(T, name), options)
        for name, rows in options_by_name.items()
        for options in rows
    ]


UP = {"maximize": True}
OTHER = {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}
DECOUPLED = {"weight_decay": 0.1, "decoupled_weight_decay": True}
TABLE = beside_torchs({
    "SGD": [{}, {"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.1, **UP}, {"lr": 0.05, "momentum": 0.9},
        {"lr": 0.05, "momentum": 0.9, "dampening": 0.3},
        {"lr": 0.05, "momentum": 0.9, "nesterov": True},
        {"lr": 0.05, "momentum": 0.7, "weight_decay": 0.1, **UP}],
    "Adagrad": [{}, {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.1},
        {"initial_accumulator_value": 0.5, "eps": 1e-3, **UP}],
    "RMSprop": [
        {}, {"alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}, {"centered": True, "eps": 1e-2},
        {"momentum": 0.9, **UP}, {"momentum": 0.5, "centered": True, "eps": 1e-2}],
    "Adadelta": [{}, {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}, UP],
    "Adam": [{}, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3}, {"lr": 0.01, "weight_decay": 0.1},
        {"lr": 0.01, "amsgrad": True, "betas": (0.9, 0.6)},
        {"lr": 0.01, "weight_decay": 0.1, **UP}],
    "AdamW": [{}, {"lr": 0.01, **OTHER, "weight_decay": 0.3},
        {"lr": 0.01, "amsgrad": True, "betas": (0.9, 0.6)}, {"lr": 0.01, **UP}],
    "Adamax": [{}, OTHER, UP],
    "NAdam": [{}, OTHER, DECOUPLED, {"momentum_decay": 0.1, **UP}],
    "RAdam": [{}, OTHER, DECOUPLED, UP],
    "ASGD": [{}, {"lr": 0.05, "lambd": 0.1, "alpha": 0.5, "t0": 5.0, "weight_decay": 0.1}, UP],
    "Rprop": [{"lr": 0.1, "etas": (0.6, 1.1), "step_sizes": (0.01, 0.2)}, UP],
    "Adafactor": [{},
        {"lr": 0.1, "beta2_decay": -0.5, "eps": (1e-6, 0.1), "d": 1.5, "weight_decay": 0.1}, UP],
})  # fmt: skip
TABLE += [
    (optim.rprop, T.Rprop, {}),
]
# One configuration of each that keeps all that it can keep.
RICH = [
    optim.sgd(0.05, momentum=0.9, dampening=0.3, weight_decay=0.1),
    optim.adagrad(lr_decay=0.01),
    optim.rmsprop(momentum=0.5, centered=True),
    optim.adadelta(),
    optim.adam(amsgrad=True),
    optim.adamw(),
    optim.adamax(),
    optim.nadam(decoupled_weight_decay=True),
    optim.radam(decoupled_weight_decay=True),
    optim.asgd(t0=2.0),
    optim.rprop(),
    optim.lion(weight_decay=0.1),
    optim.adafactor(weight_decay=0.1),
    optim.lamb(weight_decay=0.1),
    optim.adabelief(),
    optim.adan(weight_decay=0.1),
    optim.lars(weight_decay=0.1),
    optim.prodigy(d0=1e-3, weight_decay=0.1),
    optim.chain(optim.lookahead(2), optim.adam()),
    optim.chain(optim.sam(), optim.adam()),
    optim.chain(optim.reduce_on_plateau(), optim.adam()),
    # Its longer axes would have matrices of less than full rank, whose eigenvectors are arbitrary.
    optim.soap(every=2, max_size=3),
    optim.shampoo(0.05, every=2),
    optim.chain(optim.schedule_free(0.8), optim.adamw(betas=(0.0, 0.999))),
    optim.chain(optim.galore(2, every=2), optim.adam()),
    optim.chain(optim.clip_by_global_norm(1.0), optim.accumulate(2), optim.ema(0.9), optim.adam()),
    optim.by_path({"0*": optim.sgd(0.1, momentum=0.9), "*": optim.adamw()}),
]


def gradient(p, t):
    """The slope of a bowl that is another one in each step."""
    return p + 0.7 * torch.sin(p + t)


def steps_of(optimizer, params, steps, of=gradient):
    state = optimizer.init(params)
    for t in range(steps):
        grads = lf.tree.map(partial(of, t=t), params)
        params, state = optimizer.update(params, grads, state)
    return params, state


LATE = {"weight_decay": 0.3, "decoupled_weight_decay": True}
SCHEDULED = beside_torchs({
    "SGD": [{}, {"momentum": 0.9}], "Adagrad": [{"lr_decay": 0.01}], "RMSprop": [{}],
    "Adadelta": [{}], "Adam": [{}], "AdamW": [{"weight_decay": 0.3}], "Adamax": [{}],
    "NAdam": [LATE], "RAdam": [LATE], "Adafactor": [{"weight_decay": 0.3}],
})  # fmt: skip


TREE = {"weight": keys.normal(lf.Key(3), (3, 2)), "bias": keys.normal(lf.Key(4), (4,))}
MATRICES = {"first": keys.normal(lf.Key(3), (3, 2)), "second": keys.normal(lf.Key(4), (4, 5))}


def is_weight(path):
    return path == "weight"


SHORTENED = optim.chain(optim.reduce_on_plateau(0.4, patience=0), optim.sgd(0.1, 0.9))

# Those that have an adjoint, in the configurations that change its code path.
ADJOINTS = [
    optim.sgd(0.1, weight_decay=0.2),
    optim.sgd(0.1, momentum=0.9, weight_decay=0.1, nesterov=True, maximize=True),
    optim.sgd(schedules.cosine(0.1, 10), momentum=0.9, dampening=0.3, weight_decay=0.2),
    optim.adam(0.1, weight_decay=0.2),
    optim.adamw(schedules.linear(0.1, 0.2, 5), weight_decay=0.2, maximize=True),
    optim.adam(0.1, amsgrad=True),
    optim.adagrad(0.1, 0.2, 0.3, 0.4),
    optim.rmsprop(0.1, 0.9, weight_decay=0.1),
    optim.rmsprop(0.1, 0.9, momentum=0.8, centered=True, maximize=True),
    optim.adadelta(0.5, weight_decay=0.1),
    optim.adamax(0.1, weight_decay=0.3),
    optim.nadam(0.1, weight_decay=0.3),
    optim.nadam(0.1, weight_decay=0.3, decoupled_weight_decay=True),
    optim.radam(0.1, weight_decay=0.3),
    optim.radam(0.1, (0.9, 0.5), weight_decay=0.3, decoupled_weight_decay=True),
    optim.asgd(0.1, 0.2, 0.75, 1, 0.3),
    optim.lamb(0.1, weight_decay=0.2),
    optim.lamb(0.1, maximize=True),
    optim.adabelief(0.1, eps=1e-3, weight_decay=0.2),
    optim.adan(0.1, (0.9, 0.8, 0.7), weight_decay=0.2),
    optim.lars(0.1, 0.9, 0.2, 0.5),
    optim.lars(0.1, 0.9, 0.2, 0.5, nesterov=True, maximize=True),
    optim.chain(optim.lookahead(3, 0.3), optim.sgd(0.1, 0.9)),
    attrs.evolve(SHORTENED, init=lambda p: optim.plateau_step(SHORTENED.init(p), torch.inf)),
    optim.adafactor(0.1, -0.5, (1e-3, 0.1), 1.0, 0.2),
    optim.adafactor(schedules.linear(0.5, 0.6, 5), eps=(None, 2.0), d=9.0, maximize=True),
    optim.chain(optim.schedule_free(0.8), optim.adamw(0.1, (0.0, 0.9), weight_decay=0.2)),
    optim.chain(optim.schedule_free(0.8, 0.0), optim.sgd(0.1)),
    optim.chain(optim.clip_by_global_norm(0.7), optim.sgd(0.1)),
    optim.chain(optim.clip_by_global_norm(70.0), optim.sgd(0.1)),
    optim.chain(optim.clip_by_value(0.7), optim.sgd(0.1)),
    optim.chain(optim.weight_decay(0.2, is_weight), optim.sgd(0.1)),
    optim.chain(optim.ema(0.9), optim.sgd(0.1, 0.9)),
    optim.by_path({"weight": optim.sgd(0.1, 0.9), "*": optim.chain(optim.ema(0.9), optim.sgd())}),
    optim.muon(0.1, dtype=torch.float64),
    optim.muon(0.1, nesterov=False, adjust_lr_fn="match_rms_adamw", dtype=torch.float64),
]


def params_for(optimizer):
    """Give params that an optimizer takes."""
    return MATRICES if "muon" in optimizer.name else TREE


# Every optimizer, and leaves of every kind.
SHAPES = {"odd": (37, 19), "bias": (5,), "number": (), "large": (300, 200), "halves": (11, 3)}
KINDS = ("odd", "transposed", "bias", "float64", "number", "halves", "large")
MATRIX_KINDS = ("odd", "transposed", "float64", "large")


def leaves_of(kinds, seed):
    """Leaves that differ in size, order in memory and dtype."""

    def draw(i, kind):
        key = lf.Key(seed).fold_in(i)
        if kind == "transposed":
            return keys.normal(key, (19, 37)).mT
        if kind == "float64":
            return keys.normal(key, (7, 3), dtype=torch.float64)
        leaf = keys.normal(key, SHAPES[kind])
        return leaf.bfloat16() if kind == "halves" else leaf

    return {kind: draw(i, kind) for i, kind in enumerate(kinds)}


def every_optimizer():
    for make, _, options in TABLE:
        yield make(**options)
    for make, _, options in SCHEDULED:
        yield make(schedules.cosine(0.05, 40), **options)
    yield optim.lion(weight_decay=0.1)
    yield optim.muon()
    yield optim.chain(optim.accumulate(2), optim.ema(0.9), optim.clip_by_value(0.5), optim.adamw())
    yield optim.chain(optim.weight_decay(0.1), optim.adam(amsgrad=True))


EVERY = list(every_optimizer())
