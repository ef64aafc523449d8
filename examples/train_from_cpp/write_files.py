"""Write what train.cpp trains with: a step, its first state, and scikit-learn's digits.

A network of 64-32-10 units learns by AdamW. The folder gets step.onnx, state.onnx,
images.bin (float32, 64 numbers an image) and labels.bin (int64).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import lincoln_fn as lf

BATCH = 32


def load_digits() -> tuple[Tensor, Tensor]:
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


def make_training() -> tuple[lf.Step, lf.TrainState]:
    """Make the step, and the state to start from."""
    net = lf.serial(lf.dense(32), lf.relu(), lf.dense(10))
    optimizer = lf.optim.adamw(1e-2)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    return step, lf.init_state(net, optimizer, lf.Key(0), torch.zeros(BATCH, 64))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the files go")
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    (images, labels), (step, state) = load_digits(), make_training()
    batch = images[:BATCH], labels[:BATCH]
    path = folder / "step.onnx"
    lf.export_step(step, state, batch, path, defaults=folder / "state.onnx")
    images.numpy().tofile(folder / "images.bin")
    labels.numpy().tofile(folder / "labels.bin")


if __name__ == "__main__":
    main()
