"""Random optimizers and schedules.

A row draws an optimizer for a network, whose first parameters `params_of()` gives.

Those that divide by the size of the gradient have a large eps: where the gradient is 0 but for its
rounding, they would otherwise move the parameters by that rounding's sign. Those that look at the
sign alone are given some of the parameters too, so that no gradient is 0.
"""

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
    "schedule_free": lambda r: optim.schedule_free(r.choice((0.5, 0.9))),
    "weight_decay": lambda r: optim.weight_decay(0.1),
}


def rate(rng):
    """Draw a learning rate, or a schedule of it."""
    if chance(rng, 0.25):
        return SCHEDULES[rng.choice([*SCHEDULES])](rng)
    return rng.choice((0.01, 0.05))


def adaptive(name, **choices):
    """Give the row of an optimizer that divides by the size of the gradient."""

    def draw(r, params_of):
        more = options(r, weight_decay=(0.1,), maximize=(True,), **choices)
        return getattr(optim, name)(rate(r), eps=1e-2, **more)

    return draw


def sgd(r, params_of):
    return optim.sgd(rate(r), **options(r, weight_decay=(0.1,), maximize=(True,)))


def sgd_with_momentum(r, params_of):
    more = options(r, dampening=(0.3,), weight_decay=(0.1,), maximize=(True,))
    if "dampening" not in more:
        more |= options(r, nesterov=(True,))
    return optim.sgd(rate(r), 0.9, **more)


def of_signs(make):
    """Have an optimizer of signs see gradients that are not 0."""
    return lambda r, params_of: optim.chain(optim.weight_decay(0.3), make(r))


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
    return optim.by_path({f"{first}*": sgd(r, params_of), "*": adaptive("adam")(r, params_of)})


def chained(r, params_of):
    parts = r.sample([*TRANSFORMS], r.randint(1, 2))
    last = r.choice((sgd, sgd_with_momentum, adaptive("adamw")))
    return optim.chain(*(TRANSFORMS[part](r) for part in parts), last(r, params_of))


OPTIMIZERS = {
    "sgd": sgd,
    "sgd with momentum": sgd_with_momentum,
    "adagrad": adaptive("adagrad", lr_decay=(0.1,), initial_accumulator_value=(0.5,)),
    "rmsprop": adaptive("rmsprop", momentum=(0.5,), centered=(True,), alpha=(0.9,)),
    "adadelta": adaptive("adadelta", rho=(0.8,)),
    "adam": adaptive("adam", amsgrad=(True,), betas=((0.8, 0.9),)),
    "adamw": adaptive("adamw", amsgrad=(True,), betas=((0.8, 0.9),)),
    "adamax": adaptive("adamax", betas=((0.8, 0.9),)),
    "nadam": adaptive("nadam", momentum_decay=(0.1,), decoupled_weight_decay=(True,)),
    "radam": adaptive("radam", decoupled_weight_decay=(True,)),
    "asgd": lambda r, params_of: optim.asgd(rate(r),
        **options(r, lambd=(0.1,), t0=(2.0,), weight_decay=(0.1,), maximize=(True,))),
    "rprop": of_signs(lambda r: optim.rprop(0.01, **options(r, maximize=(True,)))),
    "lion": of_signs(lambda r: optim.lion(0.01, **options(r, weight_decay=(0.1,)))),
    "muon": muon,
    "adafactor": lambda r, params_of: optim.adafactor(rate(r),
        **options(r, eps=((1e-2, 1e-3),), weight_decay=(0.1,), maximize=(True,))),
    "lamb": adaptive("lamb", betas=((0.8, 0.9),)),
    # Its bases are arbitrary where a gradient has less than full rank, so it has none here.
    "soap": lambda r, params_of: optim.soap(rate(r), eps=1e-2, max_size=1,
        **options(r, every=(1, 2), weight_decay=(0.1,))),
    "shampoo": adaptive("shampoo", every=(1, 2), decay=(0.9,), momentum=(0.0,)),
    "by_path": by_path,
    "chain": chained,
}  # fmt: skip
# An optimizer without a row is drawn with its defaults, for a learning rate.
OPTIMIZERS |= {
    name: lambda r, params_of, name=name: getattr(optim, name)(rate(r))
    for name in optim.__all__
    if name not in {*OPTIMIZERS, "sharded"}
    and getattr(getattr(optim, name), "__annotations__", {}).get("return") == "Optimizer"
}
# sgd is fused into the walk back, and adamw is what most use, so they are drawn more often.
WEIGHTS = [6 if name == "sgd" else 3 if name in ("sgd with momentum", "adamw") else 1
           for name in OPTIMIZERS]  # fmt: skip
