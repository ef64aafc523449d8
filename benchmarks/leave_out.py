"""What leaving out training examples does: predicted, and seen in runs that are trained again.

    python -m benchmarks.leave_out

A small network learns 1,000 of scikit-learn's digits, in float64. Subsets of them are left out, and
the network is trained again, from the same params and with the same batches. Printed is Spearman's
correlation of the change of the loss with the prediction: for the mean loss of the test digits,
and as the mean over 15 single test digits; each as the mean over the seeds, +- half of their range.

    this        `lf.replay.metagradient`
    influence   `lf.curvature.influence`, with the best of three dampings
    TRAK        `benchmarks.trak`, with the best of three numbers of projections, at the params of
                the run, or as the mean of 10 models, each trained on half of the digits
    random      numbers that are drawn
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import lincoln_fn as lf
from benchmarks.trak import trak

EXAMPLES, BATCH_SIZE, SINGLE, MODELS = 1000, 50, 15, 10
DAMPINGS, PROJECTIONS = (1e-3, 1e-2, 1e-1), (64, 256, 512)
LOSS = lf.losses.softmax_cross_entropy()
SETTINGS: dict[str, tuple[Callable[[], lf.Layer], Callable[[float], lf.Optimizer], float]] = {
    "tanh, SGD": (lf.tanh, lf.optim.sgd, 0.1),
    "tanh, AdamW": (lf.tanh, lf.optim.adamw, 0.003),
    "ReLU, momentum": (lf.relu, partial(lf.optim.sgd, momentum=0.9), 0.02),
}
KINDS = {"leave one out": 1, "50 out": 50, "keep 90 %": 100, "75 %": 250, "50 %": 500}
Examples = tuple[Tensor, Tensor]


def subsets(count: int, runs: int, key: lf.Key) -> Tensor:
    """Draw which examples are left out: 1 where one is, of shape (runs, examples)."""
    rows = [lf.keys.permutation(key.fold_in(i), EXAMPLES)[:count] for i in range(runs)]
    out = torch.zeros(runs, EXAMPLES, dtype=torch.float64)
    return out.scatter(1, torch.stack(rows), 1.0)


@attrs.frozen(eq=False)
class Setting:
    """A run on the first 1,000 digits, and the other digits."""

    run: lf.replay.Run
    train: Examples
    test: Examples

    @classmethod
    def of(cls, name: str, seed: int, steps: int, factor: float = 1.0) -> Setting:
        """Make the run of a seed; `factor` is of the learning rate."""
        digits, (layer, make, lr) = load_digits(), SETTINGS[name]
        x, target = torch.tensor(digits.data / 16 - 0.5), torch.tensor(digits.target)
        net, optimizer = lf.serial(lf.dense(32), layer(), lf.dense(10)), make(lr * factor)
        train = x[:EXAMPLES], target[:EXAMPLES]
        epochs = steps * BATCH_SIZE // EXAMPLES
        batches = lf.data.batches(train, BATCH_SIZE, key=lf.Key(seed), epochs=epochs)
        start = lf.init_state(net, optimizer, lf.Key(seed + 1), x[:1])
        run = lf.replay.Run(lf.make_step(net, LOSS, optimizer), batches, start)
        return cls(run, train, (x[EXAMPLES:], target[EXAMPLES:]))

    @property
    def tests(self) -> list[Examples]:
        """All test digits, and some single ones."""
        singles = [(self.test[0][i : i + 1], self.test[1][i : i + 1]) for i in range(SINGLE)]
        return [self.test, *singles]

    def params(self) -> lf.Params:
        """Train."""
        return self.run.reached(self.run.start, self.run.end).params

    def trained_again(self, out: Tensor, starts: lf.Params | None = None) -> lf.Params:
        """Train once for each row of `out`, all at the same time, and stack the params."""
        run = lf.replay.reweighted(self.run, torch.ones(EXAMPLES))
        pure = lf.make_step(run.step.net, run.step.loss, run.step.optimizer, fast=False).pure

        def take(leaves: list[Tensor], x: Tensor, target: Tensor, weights: Tensor) -> list[Tensor]:
            each = iter(leaves)
            state = lf.tree.map(lambda _: next(each), run.start, states=True)
            return lf.tree.leaves(pure(state, (x, (target, weights)))[0], states=True)

        many = torch.func.vmap(take, in_dims=(0, None, None, 0))
        start = [
            leaf.expand(len(out), *leaf.shape) for leaf in lf.tree.leaves(run.start, states=True)
        ]
        if starts is not None:
            start[: len(lf.tree.leaves(starts))] = lf.tree.leaves(starts)
        for x, target, rows in attrs.evolve(
            self.run.batches, arrays=(*self.train, torch.arange(EXAMPLES))
        ):
            start = many(start, x, target, 1 - out[:, rows])
        each = iter(start)
        return lf.tree.map(lambda _: next(each), run.start.params)

    def losses(self, stacked: lf.Params) -> Tensor:
        """Compute the loss of each test digit, of shape (runs, digits)."""
        loss = lf.losses.softmax_cross_entropy(reduction="none")
        models = len(lf.tree.leaves(stacked)[0])
        every = [lf.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(models)]
        net = self.run.step.net
        return torch.stack(
            [loss.forward(net.predict(params, self.test[0]), self.test[1])[0] for params in every]
        )


def by_gradient(setting: Setting) -> list[Tensor]:
    """Predict by how much each example's weight changes each test loss: (tests, examples)."""
    found = [lf.replay.metagradient(setting.run, test).examples for test in setting.tests]
    return [torch.stack(found)]


def by_influence(setting: Setting) -> list[Tensor]:
    """Predict the same by influence functions, once for each damping."""
    net, params = setting.run.step.net, setting.params()
    found = partial(lf.curvature.influence, net, params, setting.train[0], LOSS, setting.train[1])
    return [
        torch.stack([found(test, damping=damping, tolerance=1e-2) for test in setting.tests])
        for damping in DAMPINGS
    ]


def by_trak(setting: Setting, models: Sequence[lf.Params]) -> list[Tensor]:
    """Predict the same by TRAK, once for each number of projections."""
    predicted = []
    for size in PROJECTIONS:
        of_all = trak(setting.run.step.net, models, setting.train, setting.test, size, lf.Key(99))
        predicted.append(torch.cat([of_all.mean(0, keepdim=True), of_all[:SINGLE]]))
    return predicted


def by_trak_of_several(setting: Setting, key: lf.Key) -> list[Tensor]:
    """Predict the same by TRAK's mean over models from other params, on halves of the digits."""
    net, x = setting.run.step.net, setting.train[0]
    drawn = [net.init(key.fold_in(i), x[:1]) for i in range(MODELS)]
    starts = lf.tree.map(lambda *leaves: torch.stack(leaves), *drawn)
    trained = setting.trained_again(subsets(EXAMPLES // 2, MODELS, key), starts)
    models = [lf.tree.map(lambda leaf, i=i: leaf[i], trained) for i in range(MODELS)]
    return by_trak(setting, models)


def at_random(key: lf.Key) -> list[Tensor]:
    """Draw numbers."""
    return [lf.keys.normal(key, (1 + SINGLE, EXAMPLES), dtype=torch.float64)]


def spearman(a: Tensor, b: Tensor) -> float:
    """Compute Spearman's correlation."""
    ranks = torch.stack([each.argsort().argsort().double() for each in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


def correlations(predicted: list[Tensor], out: Tensor, losses: Tensor) -> Tensor:
    """Compute the best correlations: with the mean loss, and the mean of those with single ones."""
    changes = torch.cat([losses.mean(1, keepdim=True), losses[:, :SINGLE]], 1)
    found = [
        [spearman(-(out @ each), change) for each, change in zip(tried, changes.mT, strict=True)]
        for tried in predicted
    ]
    each = torch.tensor(found)
    return torch.stack([each[:, 0].max(), each[:, 1:].mean(1).max()])


def measure(name: str, seed: int, runs: int, steps: int) -> dict[str, Tensor]:
    """Compute the correlations of one seed: by method, of shape (kinds, 2)."""
    setting = Setting.of(name, seed, steps)
    key = lf.Key(seed + 2)
    outs = [subsets(count, runs, key.fold_in(i)) for i, count in enumerate(KINDS.values())]
    losses = setting.losses(setting.trained_again(torch.cat(outs))).split(runs)
    methods: dict[str, Callable[[], list[Tensor]]] = {
        "this": partial(by_gradient, setting),
        "influence": partial(by_influence, setting),
        "TRAK": lambda: by_trak(setting, [setting.params()]),
        "TRAK, 10 models": partial(by_trak_of_several, setting, key.fold_in(100)),
        "random": partial(at_random, key.fold_in(101)),
    }
    found = {}
    for method, predict in methods.items():
        begun = time.process_time()
        predicted = predict()
        print(f"# {name}, {seed}: {method}, {time.process_time() - begun:.0f} s", flush=True)
        each = [correlations(predicted, *both) for both in zip(outs, losses, strict=True)]
        found[method] = torch.stack(each)
    return found


def reach(name: str, seed: int, steps: int) -> None:
    """Print what is predicted and seen for other learning rates, and for 50 digits left out."""
    setting = Setting.of(name, seed, steps)
    found = lf.replay.metagradient(setting.run, setting.test, ("lr", "examples"))
    of_lr = SETTINGS[name][2] * found.lr.sum().item()

    def tell(change: str, predicted: float, losses: Tensor) -> None:
        seen = losses.mean().item() - found.value
        print(f"{name}, {seed}: {change}: predicted {predicted:+.1e}, seen {seen:+.1e}", flush=True)

    for by in (1e-8, 1e-6, 1e-4, 1e-2):
        params = Setting.of(name, seed, steps, 1 + by).params()
        stacked = lf.tree.map(lambda leaf: leaf[None], params)
        tell(f"learning rate + {by:g} of it", of_lr * by, setting.losses(stacked))
    for kind, rows in {"helpful": found.examples, "harmful": -found.examples}.items():
        out = torch.zeros(1, EXAMPLES, dtype=torch.float64)
        out[0, rows.argsort()[:50]] = 1.0
        predicted = -(out[0] @ found.examples).item()
        tell(f"50 most {kind} out", predicted, setting.losses(setting.trained_again(out)))
    smooth = [lf.replay.smoothness(setting.run, change=change) for change in (0.01, 0.1, 1.0)]
    print(f"{name}, {seed}: smoothness " + " ".join(f"{each:.3f}" for each in smooth), flush=True)


def show(name: str, of_seeds: Sequence[dict[str, Tensor]]) -> None:
    """Print the rows of a setting."""
    for method in of_seeds[0]:
        each = torch.stack([found[method] for found in of_seeds])
        mean, spread = each.mean(0).tolist(), ((each.amax(0) - each.amin(0)) / 2).tolist()
        cells = [
            " / ".join(f"{m:.2f} +-{s:.2f}" for m, s in zip(*of_kind, strict=True))
            for of_kind in zip(mean, spread, strict=True)
        ]
        row = "".join(f"{cell:>27s}" for cell in cells)
        print(f"{name + ': ' + method:34s}{row}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=40, help="subsets of each kind")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 10, 20])
    parser.add_argument("--setting", choices=SETTINGS, action="append")
    parser.add_argument("--reach", action="store_true", help="print how far predictions hold")
    options = parser.parse_args(arguments)
    if options.reach:
        for name in options.setting or SETTINGS:
            for seed in options.seeds:
                reach(name, seed, options.steps)
        return
    print(" " * 34 + "".join(f"{kind:>27s}" for kind in KINDS), flush=True)
    for name in options.setting or SETTINGS:
        show(name, [measure(name, seed, options.runs, options.steps) for seed in options.seeds])


if __name__ == "__main__":
    main()
