"""Tune the learning rate over a training run by its gradient, beside a search.

A small network learns scikit-learn's digits in 100 steps. First, constant rates and rates that
fall along a cosine are searched for the lowest loss of validation digits. Then the better of the
two is bent: the rate is interpolated between 11 values, and the run is walked back a few times for
the derivative of the validation loss in each step's rate. Printed are the losses of validation
digits, and of test digits that no search has seen.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence

import attrs
import torch
from options import positive_int
from sklearn.datasets import load_digits
from torch import Tensor

import lincoln_fn as lf

STEPS, BATCH_SIZE, KNOTS = 100, 50, 11
TIME = "A default run takes about 40 seconds on two cores."
SIZE = 0.15  # of a step of the logarithm of a rate


@attrs.frozen(eq=False)
class Problem:
    """The network, the data, and the first params."""

    net: lf.Layer
    loss: lf.Loss
    data: dict[str, tuple[Tensor, Tensor]]
    first: object

    def run(self, rates: Tensor) -> lf.replay.Run:
        """Make the run with these rates, one for each step."""
        optimizer = lf.optim.sgd(lambda step: rates[step], momentum=0.9)
        step = lf.make_step(self.net, self.loss, optimizer)
        x = self.data["train"][0]
        batches = lf.data.batches(self.data["train"], BATCH_SIZE, key=lf.Key(1), epochs=STEPS)
        start = lf.init_state(self.net, optimizer, lf.Key(0), x[:1], params=self.first)
        return lf.replay.Run(step, batches, start)

    def losses(self, rates: Tensor) -> tuple[float, float]:
        """Train, and compute the loss of validation and of test digits."""
        run = self.run(rates)
        try:
            params = run.reached(run.start, STEPS).params
        except lf.NonFiniteError:
            return math.inf, math.inf
        both = (self.data[name] for name in ("validation", "test"))
        validation, test = (
            self.loss.forward(self.net.predict(params, x), digits)[0].item() for x, digits in both
        )
        return validation, test


def load_problem(key: lf.Key) -> Problem:
    """Divide 1,797 images of digits into three parts."""
    digits = load_digits()
    order = lf.keys.permutation(key, len(digits.data))
    x = torch.tensor(digits.data / 16 - 0.5, dtype=torch.float32)[order]
    target = torch.tensor(digits.target)[order]
    parts = {"train": (0, 700), "validation": (700, 1200), "test": (1200, 1797)}
    data = {name: (x[a:b], target[a:b]) for name, (a, b) in parts.items()}
    net = lf.serial(lf.dense(32), lf.tanh(), lf.dense(10))
    return Problem(net, lf.losses.softmax_cross_entropy(), data, net.init(key, x[:1]))


def search(problem: Problem, shape: Tensor, count: int) -> tuple[Tensor, tuple[float, float]]:
    """Find the best multiple of a shape of rates, among some from 0.001 to 3."""
    multiples = 10 ** torch.linspace(-3, 0.5, count, dtype=torch.float64)
    tried = [(problem.losses(lr * shape), lr * shape) for lr in multiples]
    losses, rates = min(tried, key=lambda each: each[0][0])
    return rates, losses


def tune(problem: Problem, rates: Tensor, walks: int) -> tuple[Tensor, tuple[float, float]]:
    """Change the rates at the knots by the gradient of the run, and keep the best of all."""
    place = torch.linspace(0, KNOTS - 1, STEPS, dtype=torch.float64)
    between = (1 - (place[:, None] - torch.arange(KNOTS)).abs()).clamp(min=0)
    every = rates[:: STEPS // (KNOTS - 1)]
    knots = torch.cat([every, rates[-1:]]).clamp(min=rates.max().item() / 100).log()
    adam = lf.optim.adam(SIZE, (0.7, 0.9))
    state, best = adam.init(knots), (problem.losses(rates), rates)
    for _ in range(walks):
        rates = (between @ knots).exp()
        found = lf.replay.metagradient(
            problem.run(rates), problem.data["validation"], ("lr",), steps=STEPS
        )
        knots, state = adam.update(knots, between.mT @ (found.lr * rates), state)
        rates = (between @ knots).exp()
        best = min(best, (problem.losses(rates), rates), key=lambda each: each[0][0])
    return best[1], best[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, tune and print."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n{TIME}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=positive_int, default=40, help="of each search")
    parser.add_argument("--walks", type=positive_int, default=8, help="back, to tune")
    parser.add_argument("--key", type=int, default=9)
    options = parser.parse_args(arguments)
    problem = load_problem(lf.Key(options.key))
    step = torch.arange(STEPS, dtype=torch.float64)
    constant = torch.ones(STEPS, dtype=torch.float64)
    print("rates            validation    test  seconds")

    def show(
        name: str, find: Callable[[], tuple[Tensor, tuple[float, float]]]
    ) -> tuple[float, Tensor]:
        begun = time.perf_counter()
        rates, (validation, test) = find()
        seconds = time.perf_counter() - begun
        print(f"{name:16s} {validation:10.4f} {test:7.4f} {seconds:8.1f}")
        return validation, rates

    best = show("best constant", lambda: search(problem, constant, options.runs))
    cosine = (1 + torch.cos(math.pi * step / STEPS)) / 2
    other = show("best cosine", lambda: search(problem, cosine, options.runs))
    _, first = min(best, other, key=lambda each: each[0])
    _, tuned = show("by the gradient", lambda: tune(problem, first, options.walks))
    every = tuned[:: STEPS // (KNOTS - 1)].tolist()
    print("\nits rate at every tenth step: " + " ".join(f"{rate:.2f}" for rate in every))


if __name__ == "__main__":
    main()
