"""Distil 1,000 digits to ten images: what a network learns most from in 20 steps.

A run of 20 steps trains a small network on ten images, one of each digit. It is walked back for the
derivative of the loss of 1,000 real digits in the ten images, and these are changed by it. Printed
is the accuracy on other digits after training on ten images: real ones, the mean of each digit, and
the distilled ones; from the first params that they were distilled with, and from others.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from mislabelled import save_picture
from options import picture_file, positive_int
from sklearn.datasets import load_digits

import lincoln_fn as lf

TRAIN, STEPS, LABELS = 1000, 20, torch.arange(10)
TIME = "A default run takes about half a minute on two cores."
NET = lf.serial(lf.dense(32), lf.tanh(), lf.dense(10))
LOSS, OPTIMIZER = lf.losses.softmax_cross_entropy(), lf.optim.sgd(0.5, momentum=0.9)


def make_run(images: torch.Tensor, seed: int) -> lf.replay.Run:
    """Make the run that trains on ten images, from the params of a seed."""
    start = lf.init_state(NET, OPTIMIZER, lf.Key(seed), images)
    batches = lf.data.batches((images, LABELS), 10, epochs=STEPS)
    return lf.replay.Run(lf.make_step(NET, LOSS, OPTIMIZER), batches, start)


def main(arguments: Sequence[str] | None = None) -> None:
    """Distil and print."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n{TIME}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--walks", type=positive_int, default=200, help="back (default: 200)")
    parser.add_argument("--plot", type=picture_file, help="save a picture of the ten images")
    options = parser.parse_args(arguments)
    digits = load_digits()
    x = torch.tensor(digits.data / 16 - 0.5, dtype=torch.float32)
    target = torch.tensor(digits.target)
    train, test = (x[:TRAIN], target[:TRAIN]), (x[TRAIN:], target[TRAIN:])
    means = torch.stack([train[0][train[1] == label].mean(0) for label in LABELS])
    first = torch.stack([train[0][train[1] == label][0] for label in LABELS])

    images, adam = means, lf.optim.adam(0.02)
    state = adam.init(images)
    for walk in range(options.walks):
        seed = walk % 10  # of the first params
        found = lf.replay.metagradient(make_run(images, seed), train, ("x",))
        images, state = adam.update(images, found.x, state)

    print("ten images     accuracy: params of distillation, others")
    for name, ten in {"real": first, "means": means, "distilled": images}.items():
        right = []
        for seed in range(20):
            run = make_run(ten, seed)
            logits = NET.predict(run.reached(run.start, STEPS).params, test[0])
            right.append((logits.argmax(1) == test[1]).double().mean())
        print(
            f"{name:12s} {100 * sum(right[:10]) / 10:10.1f} % {100 * sum(right[10:]) / 10:10.1f} %"
        )
    if options.plot:
        save_picture(options.plot, images, LABELS, LABELS)


if __name__ == "__main__":
    main()
