"""What the programs of the recipes share: their options, scikit-learn's digits, the pictures."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from options import picture_file, positive_int
from torch import Tensor

import lincoln_fn as lf


def parse_options(
    text: str | None, arguments: Sequence[str] | None, *, steps: int
) -> argparse.Namespace:
    """Read the command line: a key, the number of steps, and the file of the picture."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument("--steps", type=positive_int, default=steps, help=f"default: {steps}")
    parser.add_argument("--plot", type=picture_file, metavar="FILE.png", help="save the picture")
    return parser.parse_args(arguments)


def load_digits() -> tuple[Tensor, Tensor]:
    """Load 1,797 images of 8 by 8 pixels from 0 to 1, as rows of 64, and the digits."""
    from sklearn.datasets import load_digits as load

    images, digits = load(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)


# Any: batches of any kind, and the params of any network.
def train(
    net: lf.Layer, loss: lf.Loss, lr: float, batches: Iterable[Any], *, steps: int, key: int
) -> tuple[Any, list[float]]:
    """Train a network by AdamW, and return its params and the loss of each step."""
    batches = iter(batches)
    first = next(batches)
    optimizer = lf.optim.adamw(lf.schedules.one_cycle(lr, total_steps=steps))
    state = lf.init_state(net, optimizer, lf.Key(key), first[0])
    step, losses = lf.make_step(net, loss, optimizer), []
    for state, record in lf.train(step, state, (first, *islice(batches, steps - 1))):
        losses.append(record.loss)
    return state.params, losses


def save_images(images: Tensor, path: Path, *, columns: int, title: str) -> None:
    """Save images of 64 pixels each, side by side."""
    from matplotlib.figure import Figure

    rows = images.reshape(-1, columns, 8, 8).clamp(0, 1)
    framed = torch.nn.functional.pad(rows, (1, 0, 1, 0), value=1.0)
    grid = framed.movedim(2, 1).flatten(2).flatten(0, 1)
    grid = torch.nn.functional.pad(grid, (0, 1, 0, 1), value=1.0)
    figure = Figure(figsize=(columns / 2.2, len(rows) / 2.2 + 0.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(grid.numpy(), cmap="gray_r")
    axes.set_axis_off()
    axes.set_title(title)
    figure.savefig(path, dpi=120)


def save_points(points: Mapping[str, Tensor], path: Path, *, limit: float) -> None:
    """Save sets of points of a plane side by side, with their titles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(points), 4), layout="constrained")
    for axes, (title, each) in zip(figure.subplots(1, len(points)), points.items(), strict=True):
        axes.scatter(*each.T, s=3)
        axes.set(title=title, xlim=(-limit, limit), ylim=(-limit, limit))
    figure.savefig(path, dpi=120)


def save_curves(curves: Mapping[str, Sequence[float]], path: Path, *, x: str, y: str) -> None:
    """Save curves on one scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(curve, label=name)
    axes.set(xlabel=x, ylabel=y)
    axes.legend()
    figure.savefig(path, dpi=120)
