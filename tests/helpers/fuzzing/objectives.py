"""Random losses: those of the table of losses, with a head that fits each, and its targets.

What is drawn is (head, loss, target): the layers between a network and its loss, the loss, and a
function (key, prediction) -> target. The head gives the shapes of the table, whose targets are
taken in turn. Losses of numbers, and of classes on axis 1, also take y as it is.
"""

import math
from collections import defaultdict

import torch

import lincoln_fn as lf
from helpers.fuzzing.draws import chance, options
from helpers.fuzzing.layers import fork
from helpers.losses import TABLE
from helpers.sweep import OTHERS

REDUCTIONS = ("mean", "mean", "sum")
NUMBERS = ("mse", "l1", "smooth_l1", "huber", "distillation")
# What gives a loss the numbers that it is for; of those with an axis of classes, along it.
CLASSES = {"nll": lf.log_softmax, "cross_entropy": lf.softmax, "softmax_cross_entropy": None}
DOMAINS = {
    "log_loss": lf.sigmoid(), "dice": lf.sigmoid(), "log_sigmoid_loss": lf.log_sigmoid(),
    "ppo_clip": lf.tanh(), "grpo": lf.tanh(), "poisson_nll": lf.tanh(),
}  # fmt: skip

# By name: (a function of the reduction, the loss's options, predictions, targets).
ROWS = defaultdict(list)
for row in TABLE:
    if row.batched or row.target is None:
        ROWS[row.name].append((row.loss, row.options, row.prediction, row.target))
for loss, x, t in OTHERS:
    ROWS[loss.name.partition("(")[0]].append((lambda reduction, loss=loss: loss, {}, x, t))
WEIGHTS = [4 if name in ("softmax_cross_entropy", "mse") else 1 for name in ROWS]


def labels(key, *shape, n):
    return lf.keys.uniform(key, shape, 0, n).long().clamp(max=n - 1)


def drawn_loss(rng, y):
    """Draw a loss that may take y."""
    (name,) = rng.choices([*ROWS], WEIGHTS)
    reduction = rng.choice(REDUCTIONS)
    if name in NUMBERS and chance(rng, 0.7):
        loss = getattr(lf.losses, name)(reduction=reduction)
        return [], loss, lambda key, z: lf.keys.normal(key, tuple(z.shape))
    if name in CLASSES and chance(rng, 0.7):
        more = options(rng, label_smoothing=(0.2, 1.0)) if name == "softmax_cross_entropy" else {}
        loss = getattr(lf.losses, name)(reduction=reduction, **more)
        head = [CLASSES[name](1)] if CLASSES[name] else []
        return head, loss, lambda key, z: labels(key, len(z), *z.shape[2:], n=z.shape[1])
    if name == "ctc":
        return ctc(rng, y)
    made, given, prediction, target = rng.choice(ROWS[name])
    several = isinstance(prediction, tuple)
    head = fork(*(into(y, p) for p in prediction)) if several else into(y, prediction)
    last = [DOMAINS[name]] if name in DOMAINS else []
    if name in ("nll", "cross_entropy", "kl_div"):
        last = [(lf.softmax if name == "cross_entropy" else lf.log_softmax)(given.get("dim", 1))]
    return [head, *last], made(reduction), lambda key, z: in_turn(target, len(lf.tree.leaves(z)[0]))


def into(y, prediction):
    """Make layers from y's shape to a prediction's, and above 0 if that is."""
    rest = prediction.shape[1:]
    parts = [lf.flatten()] if y.ndim > 2 else []
    parts += [lf.dense(math.prod(rest)), *([lf.softplus()] if (prediction > 0).all() else [])]
    last = lf.reshape(*rest) if rest else lf.take(0, 1)
    return lf.serial(*parts, *([last] if len(rest) != 1 else []))


def in_turn(target, n):
    """Give the targets of n examples, from the first on."""
    return lf.tree.map(lambda leaf: leaf[torch.arange(n) % len(leaf)], target)


def ctc(rng, y):
    if y.ndim != 3 or y.shape[2] < 2:
        raise ValueError("no sequence of classes")
    length = y.shape[1]

    def target(key, z):
        n, most = z.shape[1], max(length // 2, 1)
        steps = torch.full((n,), length)
        lengths = labels(key, n, n=most + 1)
        return 1 + labels(key.fold_in(1), n, most, n=z.shape[2] - 1), steps, lengths

    loss = lf.losses.ctc(zero_infinity=True, reduction=rng.choice(REDUCTIONS))
    return [lf.permute(1, 0, 2), lf.log_softmax()], loss, target
