"""What leaving out training examples does: predicted, and seen in runs that are trained again.

    python -m benchmarks.leave_out

A small network learns 1,000 of scikit-learn's digits, in float64. Subsets of them are left out, and
the network is trained again, from the same params and with the same batches. Printed is Spearman's
correlation of the change of the loss with what was predicted: for the mean loss of the test digits,
and as the mean over single test digits. "influence" is `lf.curvature.influence`, with the best of
three dampings.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import Tensor

import lincoln_fn as lf

EXAMPLES, BATCH_SIZE, SINGLE = 1000, 50, 15
DAMPINGS = (1e-3, 1e-2, 1e-1)
LOSS = lf.losses.softmax_cross_entropy()
SETTINGS: dict[str, tuple[Callable[[], lf.Layer], lf.Optimizer]] = {
    "tanh, SGD": (lf.tanh, lf.optim.sgd(0.1)),
    "tanh, AdamW": (lf.tanh, lf.optim.adamw(0.003)),
    "ReLU, momentum": (lf.relu, lf.optim.sgd(0.02, momentum=0.9)),
}


def subsets(runs: int, key: lf.Key) -> dict[str, Tensor]:
    """Draw which examples are left out: by the kind of subset, (runs, examples) of 0 and 1."""
    counts = {"leave one out": 1, "50 out": 50, "keep 90 %": 100, "75 %": 250, "50 %": 500}
    drawn = {}
    for i, (name, count) in enumerate(counts.items()):
        rows = [lf.keys.permutation(key.fold_in(i).fold_in(j), EXAMPLES) for j in range(runs)]
        out = torch.zeros(runs, EXAMPLES, dtype=torch.float64)
        drawn[name] = out.scatter(1, torch.stack(rows)[:, :count], 1.0)
    return drawn


def make_run(layer: Callable[[], lf.Layer], optimizer: lf.Optimizer, seed: int, steps: int):
    """Make the run and the test digits; the run's step is compiled."""
    digits = load_digits()
    x, target = torch.tensor(digits.data / 16 - 0.5), torch.tensor(digits.target)
    net = lf.serial(lf.dense(32), layer(), lf.dense(10))
    step = lf.compile(lf.make_step(net, LOSS, optimizer))
    batches = lf.data.batches(
        (x[:EXAMPLES], target[:EXAMPLES]), BATCH_SIZE, key=lf.Key(seed),
        epochs=steps * BATCH_SIZE // EXAMPLES,
    )  # fmt: skip
    start = lf.init_state(net, optimizer, lf.Key(seed + 1), x[:1])
    run = lf.replay.Run(step, batches, start)
    return lf.replay.reweighted(run, torch.ones(EXAMPLES)), (x[EXAMPLES:], target[EXAMPLES:])


def losses_without(run: lf.replay.Run, out: Tensor, test: tuple[Tensor, Tensor]) -> Tensor:
    """Train again without some examples, and compute the loss of each test digit."""
    other = lf.replay.reweighted(run, 1 - out)
    params = other.reached(run.start, other.end).params
    each = lf.losses.softmax_cross_entropy(reduction="none")
    return each.forward(run.step.net.predict(params, test[0]), test[1])[0]


def spearman(a: Tensor, b: Tensor) -> float:
    """Compute Spearman's correlation."""
    ranks = torch.stack([each.argsort().argsort().double() for each in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


def gradients(run: lf.replay.Run, tests: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Predict by how much each example's weight changes each test loss."""
    return [lf.replay.metagradient(run, test).examples for test in tests]


def influences(
    run: lf.replay.Run, tests: Sequence[tuple[Tensor, Tensor]], damping: float
) -> list[Tensor]:
    """Predict the same by influence functions, at the params after training."""
    params = run.reached(run.start, run.end).params
    x, (target, _) = run.batches.arrays
    found = partial(lf.curvature.influence, run.step.net, params, x, LOSS, target, tolerance=1e-2)
    return [found(test, damping=damping) for test in tests]


def report(name: str, seed: int, runs: int, steps: int) -> None:
    """Print the rows of one setting."""
    run, test = make_run(*SETTINGS[name], seed, steps)
    singles = [(test[0][i : i + 1], test[1][i : i + 1]) for i in range(SINGLE)]
    methods = {"this": [gradients(run, [test, *singles])]}
    methods["influence"] = [influences(run, [test, *singles], damping) for damping in DAMPINGS]
    drawn = subsets(runs, lf.Key(seed + 2))
    seen = {
        kind: torch.stack([losses_without(run, row, test) for row in out])
        for kind, out in drawn.items()
    }
    for method, tried in methods.items():
        cells = []
        for kind, out in drawn.items():
            changes = [seen[kind].mean(1), *seen[kind][:, :SINGLE].T]
            of_mean, of_singles = -2.0, -2.0
            for predicted in tried:
                found = [
                    spearman(-(out @ each), change)
                    for each, change in zip(predicted, changes, strict=True)
                ]
                of_mean = max(of_mean, found[0])
                of_singles = max(of_singles, sum(found[1:]) / SINGLE)
            cells.append(f"{of_mean:.2f} / {of_singles:.2f}")
        print(f"{name + ': ' + method:26s}" + "".join(f"{cell:>15s}" for cell in cells), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=40, help="subsets of each kind")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--setting", choices=SETTINGS, action="append")
    options = parser.parse_args(arguments)
    kinds = subsets(1, lf.Key(0))
    print(" " * 26 + "".join(f"{kind:>15s}" for kind in kinds), flush=True)
    for name in options.setting or SETTINGS:
        report(name, options.seed, options.runs, options.steps)


if __name__ == "__main__":
    main()
