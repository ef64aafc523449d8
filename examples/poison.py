"""A warning: small changes of a few training images, found by the gradient of the run, do harm.

A small network learns 1,000 digits. A few of the images are changed, each pixel by at most a
quarter of its range, along the derivative of a test loss in them. Printed is the accuracy on other
digits without the changes, with random ones of that size, and with those along the gradient;
then how suspicious the changed images look: how many of them are among those of highest loss, and
among those that `lf.replay.attribute` finds most harmful.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from mislabelled import load_data, train
from options import positive_int

import lincoln_fn as lf

TRAIN, STEPS, SIZE = 1000, 200, 0.25
TIME = "A default run takes about half a minute on two cores."


def main(arguments: Sequence[str] | None = None) -> None:
    """Poison and print."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n{TIME}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=positive_int, default=50, help="that are changed")
    parser.add_argument("--walks", type=positive_int, default=10, help="back (default: 10)")
    options = parser.parse_args(arguments)
    images, digits = load_data()
    x, labels = images[:TRAIN], digits[:TRAIN]
    half = (len(images) - TRAIN) // 2
    known, test = (
        (images[rows], digits[rows])
        for rows in (slice(TRAIN, TRAIN + half), slice(TRAIN + half, None))
    )

    def walk(x: torch.Tensor) -> torch.Tensor:
        run = train(x, labels, STEPS, lf.Key(1))
        return lf.replay.metagradient(run, known, ("x",), steps=STEPS).x

    def show(name: str, x: torch.Tensor) -> None:
        run = train(x, labels, STEPS, lf.Key(1))
        logits = run.step.net.predict(run.reached(run.start, STEPS).params, test[0])
        right = (logits.argmax(1) == test[1]).double().mean()
        loss = lf.losses.softmax_cross_entropy().forward(logits, test[1])[0]
        print(f"{name:24s} accuracy {100 * right:.1f} %, loss {loss:.3f}")

    show("as they are", x)
    rows = walk(x).abs().sum(1).argsort(descending=True)[: options.images]
    low = (x[rows] - SIZE).clamp(min=-0.5)
    high = (x[rows] + SIZE).clamp(max=0.5)
    sign = lf.keys.normal(lf.Key(2), low.shape).sign()
    show("changed at random", x.index_copy(0, rows, torch.where(sign > 0, high, low)))
    poisoned = x
    for _ in range(options.walks):
        moved = poisoned[rows] + 0.2 * SIZE * walk(poisoned)[rows].sign()
        poisoned = poisoned.index_copy(0, rows, moved.clamp(low, high))
    show("changed by the gradient", poisoned)
    run = train(poisoned, labels, STEPS, lf.Key(1))
    harmful = lf.replay.attribute(run, known, steps=STEPS).harmful(options.images)
    params = run.reached(run.start, STEPS).params
    each = lf.losses.softmax_cross_entropy(reduction="none")
    own, _ = each.forward(run.step.net.predict(params, poisoned), labels)
    highest = own.argsort(descending=True)[: options.images]
    for name, suspects in {"harm most": harmful, "have the highest loss": highest}.items():
        print(f"{torch.isin(rows, suspects).sum()} of them are among the first that {name}")


if __name__ == "__main__":
    main()
