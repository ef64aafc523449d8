"""Plant a fault in one layer of a training run, and let lf.replay find it.

A network learns MNIST, and saves its state every 20 steps. With `--fault error`, a second run has
an error of 1e-6 in one number of a gradient, from step 105 on. Replay finds the step, the layer and
the number. With `--fault infinity`, one layer makes an infinity in its backward pass at step 137,
and the run ends in nan. Replay finds the step, the layer and the image. The picture shows what can
be seen of the fault without replay. The data are those of mnist.py.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mnist import load_data
from options import picture_file, positive_int
from torch import Tensor

import lincoln_fn as lf

BATCH_SIZE = 64
FIRST_STEP = {"error": 105, "infinity": 137}
# Any: the gradients of a layer, dx and dparams.
Change = Callable[[Tensor, Any, Any], tuple[Any, Any]]


@lf.record
class Count(lf.State):
    """How many steps a layer has taken."""

    steps: Tensor


def faulty(layer: lf.Layer, change: Change) -> lf.Layer:
    """Make a layer that counts its steps, and lets `change` spoil its gradients."""

    def backward(params: Any, cache: Any, g: Any) -> tuple[Any, Any]:
        own, count = params
        dx, dparams = change(count.steps + 1, *layer.backward(own, cache, g))
        return dx, (dparams, count)

    return lf.Layer(
        f"faulty({layer.name})",
        forward=lambda params, x: layer.forward(params[0], x),
        backward=backward,
        init=lambda key, x: (layer.init(key, x), Count(torch.tensor(0))),
        advance=lambda params, cache: (params[0], Count(params[1].steps + 1)),
    )


def no_change(step: Tensor, dx: Any, dparams: Any) -> tuple[Any, Any]:
    """Leave the gradients as they are."""
    return dx, dparams


def small_error(step: Tensor, dx: Any, dparams: Any) -> tuple[Any, Any]:
    """Add 1e-6 to one number of dW, from a step on."""
    weight = dparams.weight.clone()
    weight[3, 1] += torch.where(step >= FIRST_STEP["error"], 1e-6, 0.0)
    return dx, lf.evolve(dparams, weight=weight)


def infinite_dx(step: Tensor, dx: Any, dparams: Any) -> tuple[Any, Any]:
    """Make the dx of one image infinite, in one step."""
    dx = dx.clone()
    dx[11] += torch.where(step == FIRST_STEP["infinity"], math.inf, 0.0)
    return dx, dparams


def make_network(change: Change) -> lf.Layer:
    """Make the network, from rows of 784 pixels to ten scores, with a fault in the middle."""
    return lf.serial(
        lf.dense(100),
        lf.relu(),
        faulty(lf.dense(50), change),
        lf.relu(),
        lf.dropout(0.2),
        lf.dense(10),
    )


def train(
    change: Change, data: lf.data.Batches, folder: Path, key: lf.Key, save_every: int
) -> tuple[lf.replay.Run, list[Tensor]]:
    """Train, and give the run, to be replayed, and all parameters in a row after each step."""
    net, optimizer = make_network(change), lf.optim.adam(0.001)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    start = lf.init_state(net, optimizer, key, data.at(0)[0])
    checkpoints = lf.checkpoint.Directory(folder, keep_last=len(data))
    states = lf.checkpoint.every(lf.train(step, start, data), checkpoints, steps=save_every)
    passed = []
    try:
        for state, _ in lf.streams.progress(states, total=len(data)):
            passed.append(torch.cat([leaf.flatten() for leaf in lf.tree.leaves(state.params)]))
    except lf.NonFiniteError as error:
        print(f"The run has ended: {error}")
    return lf.replay.Run(step, data, start, checkpoints), passed


def find_difference(
    data: lf.data.Batches, folder: Path, options: argparse.Namespace
) -> tuple[int, list[float]]:
    """Train a sound and a faulty run, and find where they part."""
    key = lf.Key(options.key)
    sound, without = train(no_change, data, folder / "sound", key, options.save_every)
    spoilt, with_fault = train(small_error, data, folder / "spoilt", key, options.save_every)
    began = time.perf_counter()
    found = lf.replay.first_difference(sound, spoilt)
    print(f"\n{found}\nFound in {time.perf_counter() - began:.1f} s.")
    distances = [(a - b).norm().item() for a, b in zip(without, with_fault, strict=True)]
    return (0 if found is None else found.place.step), distances


def find_infinity(
    data: lf.data.Batches, folder: Path, options: argparse.Namespace
) -> tuple[int, list[float]]:
    """Train a run that ends in nan, and find where that was made."""
    run, passed = train(infinite_dx, data, folder, lf.Key(options.key), options.save_every)
    began = time.perf_counter()
    found = lf.replay.first_non_finite(run)
    print(f"\n{found}\nFound in {time.perf_counter() - began:.1f} s.")
    return (0 if found is None else found.place.step), [params.norm().item() for params in passed]


def draw(path: Path, fault: str, found: int, norms: Sequence[float], save_every: int) -> None:
    """Save the picture of a norm after each step, with the saved states and the step found."""
    # A figure of its own, where pyplot would keep one, is drawn by Agg and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    steps = range(1, len(norms) + 1)
    axes.plot(steps, norms, label="after each step")
    saved = [step for step in steps if step % save_every == 0]
    axes.plot(saved, [norms[step - 1] for step in saved], "o", markersize=4, label="saved")
    axes.axvline(found, color="black", linestyle=":", label=f"found: step {found}")
    if fault == "error":
        axes.set(title="Distance of the two runs", ylabel="norm of the parameters' difference")
        axes.set_yscale("symlog", linthresh=1e-9)
        axes.set_ylim(bottom=0)
    else:
        axes.set(title="The run that ends in nan", ylabel="norm of the parameters")
    axes.set_xlabel("step")
    axes.legend()
    figure.savefig(path, dpi=120, format="png")


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="A default run takes about 10 seconds on two cores.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument(
        "--steps", type=positive_int, default=200, help="training steps (default: 200)"
    )
    parser.add_argument(
        "--fault", choices=tuple(FIRST_STEP), default="error", help="default: error"
    )
    parser.add_argument(
        "--save-every", type=positive_int, default=20, metavar="STEPS", help="default: 20 steps"
    )
    parser.add_argument("--plot", type=picture_file, metavar="FILE.png", help="save the picture")
    options = parser.parse_args(arguments)
    first = FIRST_STEP[options.fault]
    if options.steps <= first:
        parser.error(f"expected more than {first} steps: the fault begins at step {first}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with a fault, find it, and draw."""
    options = parse_options(arguments)
    (images, digits), _ = load_data()
    rows = options.steps * BATCH_SIZE  # one epoch
    data = lf.data.batches(
        (images[:rows], digits[:rows]), BATCH_SIZE, key=lf.Key(options.key + 1), drop_last=True
    )
    find = find_difference if options.fault == "error" else find_infinity
    with tempfile.TemporaryDirectory() as folder:
        found, norms = find(data, Path(folder), options)
    if options.plot:
        draw(options.plot, options.fault, found, norms, options.save_every)


if __name__ == "__main__":
    main()
