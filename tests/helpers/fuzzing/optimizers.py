"""Random optimizers and schedules.

A row draws an optimizer for a network, whose first parameters `params_of()` gives.

Those that divide by the size of the gradient have a large eps: where the gradient is 0 but for its
rounding, they would otherwise move the parameters by that rounding's sign. Those that look at the
sign alone are given some of the parameters too, so that no gradient is 0.
"""

import inspect

import attrs

import lincoln_fn as lf
from helpers.fuzzing.draws import chance, options
from lincoln_fn import optim, schedules

SCHEDULES = {
    "constant": lambda r: schedules.constant(0.05),
    "exponential": lambda r: schedules.exponential(0.05, 0.7, **options(r, staircase=(True,))),
    "linear": lambda r: schedules.linear(0.05, 0.01, 2),
    "polynomial": lambda r: schedules.polynomial(0.05, 5, 2.0),
    "cosine": lambda r: schedules.cosine(0.05, r.choice((2, 10))),
    "cosine_restarts": lambda r: schedules.cosine_restarts(0.05, 2, r.choice((1, 2))),
    "inverse_sqrt": lambda r: schedules.inverse_sqrt(0.05, r.choice((1, 3))),
    "wsd": lambda r: schedules.wsd(0.05, 1, r.choice((0, 1)), 3),
    "one_cycle": lambda r: schedules.one_cycle(0.05, 10, **options(r, three_phase=(True,))),
    "piecewise": lambda r: schedules.piecewise((0.05, 0.01), (1,)),
    "linear_warmup": lambda r: schedules.linear_warmup(r.choice((0.05, schedules.cosine(0.05, 4))),
        2),
    "joined": lambda r: schedules.joined((schedules.constant(0.05), schedules.linear(0.1, 0.0, 4)),
        (1,)),
}  # fmt: skip
TRANSFORMS = {
    "accumulate": lambda r: optim.accumulate(r.choice((1, 2))),
    "clip_by_global_norm": lambda r: optim.clip_by_global_norm(r.choice((0.1, 10.0))),
    "clip_by_value": lambda r: optim.clip_by_value(r.choice((0.01, 1.0))),
    "ema": lambda r: optim.ema(0.9),
    "lookahead": lambda r: optim.lookahead(r.choice((1, 2))),
    "reduce_on_plateau": lambda r: optim.reduce_on_plateau(),
    "sam": lambda r: optim.sam(0.05),
    "schedule_free": lambda r: optim.schedule_free(r.choice((0.5, 0.9))),
    "weight_decay": lambda r: optim.weight_decay(0.1),
}


def rate(rng):
    """Draw a learning rate, or a schedule of it."""
    if chance(rng, 0.25):
        return SCHEDULES[rng.choice([*SCHEDULES])](rng)
    return rng.choice((0.01, 0.05))


# By argument, what is drawn for it.
CHOICES = {
    "weight_decay": (0.1,), "maximize": (True,), "amsgrad": (True,), "betas": ((0.8, 0.9),),
    "lr_decay": (0.1,), "initial_accumulator_value": (0.5,), "momentum": (0.5,), "rho": (0.8,),
    "centered": (True,), "alpha": (0.9,), "momentum_decay": (0.1,), "lambd": (0.1,), "t0": (2.0,),
    "decoupled_weight_decay": (True,), "every": (1, 2),
}  # fmt: skip
# By optimizer, what it is always given. Soap's bases are arbitrary where a gradient has less than
# full rank, so it has none here.
FIXED = {
    "adafactor": {"eps": (1e-2, 1e-3)}, "soap": {"max_size": 1}, "rprop": {"lr": 0.01},
    "adan": {"betas": (0.8, 0.9, 0.7)},
}  # fmt: skip


def by_name(name):
    """Give the row of an optimizer, most of which divide by the size of the gradient."""
    make = getattr(optim, name)
    arguments = inspect.signature(make).parameters.keys()
    fixed = {**({"eps": 1e-2} if "eps" in arguments else {}), **FIXED.get(name, {})}
    choices = {n: CHOICES[n] for n in CHOICES if n in arguments}
    return lambda r, params_of: make(**{"lr": rate(r), **options(r, **choices), **fixed})


def sgd(r, params_of):
    return optim.sgd(rate(r), **options(r, weight_decay=(0.1,), maximize=(True,)))


def sgd_with_momentum(r, params_of):
    more = options(r, dampening=(0.3,), weight_decay=(0.1,), maximize=(True,))
    if "dampening" not in more:
        more |= options(r, nesterov=(True,))
    return optim.sgd(rate(r), 0.9, **more)


def of_signs(make):
    """Have an optimizer of signs see gradients that are not 0."""
    return lambda r, params_of: optim.chain(optim.weight_decay(0.3), make(r, params_of))


@attrs.frozen
class Matrices:
    """A pattern that matches the paths of a network's matrices."""

    paths: tuple[str, ...]

    def __call__(self, path):
        return path in self.paths


def muon(r, params_of):
    params = params_of()
    pairs = zip(lf.tree.paths(params), lf.tree.leaves(params), strict=True)
    matrices = Matrices(tuple(path for path, leaf in pairs if leaf.ndim == 2))
    of_matrices = optim.muon(0.01, eps=1e-2, **options(r, nesterov=(False,), ns_steps=(3,)))
    return optim.by_path({matrices: of_matrices, "*": optim.sgd(0.01)})


def by_path(r, params_of):
    first = (*lf.tree.paths(params_of()), "")[0]
    return optim.by_path({f"{first}*": sgd(r, params_of), "*": by_name("adam")(r, params_of)})


def chained(r, params_of):
    parts = r.sample([*TRANSFORMS], r.randint(1, 2))
    last = r.choice((sgd, sgd_with_momentum, by_name("adamw")))
    return optim.chain(*(TRANSFORMS[part](r) for part in parts), last(r, params_of))


OPTIMIZERS = {
    **{name: by_name(name) for name in optim.__all__ if name not in ("lbfgs", "sharded")
        and getattr(getattr(optim, name), "__annotations__", {}).get("return") == "Optimizer"},
    "sgd": sgd,
    "sgd with momentum": sgd_with_momentum,
    "rprop": of_signs(by_name("rprop")),
    "lion": of_signs(by_name("lion")),
    "muon": muon,
    "by_path": by_path,
    "chain": chained,
}  # fmt: skip
# sgd is fused into the walk back, and adamw is what most use, so they are drawn more often.
WEIGHTS = [6 if name == "sgd" else 3 if name in ("sgd with momentum", "adamw") else 1
           for name in OPTIMIZERS]  # fmt: skip
