"""Train a character model in batches as large as the noise of its gradients asks for.

    python examples/batch_size.py --text shakespeare.txt --plot noise.png

A small transformer, that of char_gpt.py, sees the same number of windows twice: in batches of one
size, and in batches of about as many windows as the simple noise scale, which each step measures.
Printed are both runs' losses on held-out text, and how the scale of the layer norms alone goes with
that of all parameters.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from char_gpt import LENGTH, make_network, make_optimizer
from characters import Text, bits_per_character, load_text, random_windows
from options import picture_file, positive_int

import lincoln_fn as lf

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIXED, SMALLEST, LARGEST = 32, 4, 128
EVERY = 25  # steps of one size
NORMS = "2.*.0.weight"  # of the layer norms in the blocks


def size_for(scale: float) -> int:
    """Choose the power of two below the noise scale; the largest where no signal was seen."""
    if not 0 <= scale < LARGEST:
        return LARGEST
    return max(SMALLEST, 2 ** math.floor(math.log2(max(scale, 1))))


def train(
    text: Text, windows: int, key: lf.Key, size_after: Callable[[float], int]
) -> tuple[float, list[lf.StepRecord]]:
    """Train until so many windows are seen; return the held-out bits, and the steps' records."""
    net, optimizer = make_network(len(text.alphabet)), make_optimizer()
    gradient = lf.per_example.noise_scale(0.98)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer, gradient=gradient)
    state = lf.init_state(net, optimizer, key, text.train[None, :LENGTH], gradient=gradient)
    records: list[lf.StepRecord] = []
    size, seen = size_after(0.0), 0
    while seen < windows:
        steps = min(EVERY, math.ceil((windows - seen) / size))
        begin = len(records)
        batches = random_windows(text.train, size, LENGTH, begin + steps, state.key, start=begin)
        for state, record in lf.per_example.with_noise(lf.train(step, state, batches)):
            scales = {"all": record.noise[""], "norms": record.noise[NORMS]}
            records.append(lf.StepRecord(record.step, record.loss, size, scales))
        seen += steps * size
        print(
            f"{seen:7} windows  {record.step:5} steps of now {size:3}  noise {scales['all']:7.1f}  "
            f"loss {record.loss:.3f}",
            flush=True,
        )
        size = size_after(scales["all"])
    return bits_per_character(net, state.params, text.held_out, LENGTH), records


def correlation(records: Sequence[lf.StepRecord]) -> float:
    """Compute Pearson's correlation of the logarithms of both scales, where both are positive."""
    pairs = [[record.scores["all"], record.scores["norms"]] for record in records]
    positive = [pair for pair in pairs if min(pair) > 0]
    return torch.corrcoef(torch.tensor(positive).log().T)[0, 1].item()


def draw(records: Sequence[lf.StepRecord]) -> Figure:
    """Draw the scales of all parameters and of the norms at each step of a run."""
    by_name = {
        name: [
            lf.StepRecord(r.step, r.loss, scores={"noise scale": r.scores[name]}) for r in records
        ]
        for name in ("all", "norms")
    }
    axes = lf.plots.learning_curve(by_name, "noise scale")
    axes.set(yscale="log", title="Simple noise scale, in windows")
    return axes.figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Train twice, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="A default run takes about 5 minutes on two cores.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument(
        "--windows", type=positive_int, default=16_000, help="of each run (default: 16000)"
    )
    parser.add_argument(
        "--fixed",
        type=positive_int,
        default=FIXED,
        help=f"size of the fixed run (default: {FIXED})",
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="default: Python's help texts")
    parser.add_argument(
        "--plot", type=picture_file, metavar="FILE", help="where to draw the scales"
    )
    options = parser.parse_args(arguments)
    text = load_text(options.text)
    runs = {}
    for name, size_after in {
        "fixed": lambda scale: options.fixed,
        "by the noise": size_for,
    }.items():
        bits, runs[name] = train(text, options.windows, lf.Key(options.key), size_after)
        print(
            f"{name}: {bits:.3f} bits per held-out character after {len(runs[name])} steps;"
            f" correlation {correlation(runs[name]):.3f}\n"
        )
    if options.plot is not None:
        draw(runs["fixed"]).savefig(options.plot)


if __name__ == "__main__":
    main()
