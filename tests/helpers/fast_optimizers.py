"""Every optimizer, and leaves of every kind."""

import torch

import lincoln_fn as lf
from helpers.optimizers import SCHEDULED, TABLE
from lincoln_fn.optim import adam, adamw, chain

SHAPES = {"odd": (37, 19), "bias": (5,), "number": (), "large": (300, 200), "halves": (11, 3)}
KINDS = ("odd", "transposed", "bias", "float64", "number", "halves", "large")
MATRICES = ("odd", "transposed", "float64", "large")


def leaves_of(kinds, seed):
    """Leaves that differ in size, order in memory and dtype."""

    def draw(i, kind):
        key = lf.Key(seed).fold_in(i)
        if kind == "transposed":
            return lf.keys.normal(key, (19, 37)).mT
        if kind == "float64":
            return lf.keys.normal(key, (7, 3), dtype=torch.float64)
        leaf = lf.keys.normal(key, SHAPES[kind])
        return leaf.bfloat16() if kind == "halves" else leaf

    return {kind: draw(i, kind) for i, kind in enumerate(kinds)}


def every_optimizer():
    for make, _, options in TABLE:
        yield make(**options)
    for make, _, options in SCHEDULED:
        yield make(lf.schedules.cosine(0.05, 40), **options)
    yield lf.optim.lion(weight_decay=0.1)
    yield lf.optim.muon()
    yield chain(lf.optim.accumulate(2), lf.optim.ema(0.9), lf.optim.clip_by_value(0.5), adamw())
    yield chain(lf.optim.weight_decay(0.1), adam(amsgrad=True))


EVERY = list(every_optimizer())
