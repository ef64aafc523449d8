"""Print what a progress bar and a log cost, in per cent of a small network's steps.

    python -m benchmarks.progress

Both ways take the same steps, in turn, in one process: plain, and with `streams.progress` on a
terminal (that nobody looks at) around `streams.logged`, which writes a line to a CSV file every
100 steps. Opening and closing them, a few milliseconds a run, is not counted. The cost is the
median over the rounds of the ratio within a round.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import lincoln_fn as lf
from lincoln_fn.streams import Stream

ROUNDS = 41
SECONDS = 0.5  # of a round, enough for several pictures of the bar
LOG_EVERY = 100


class Terminal(io.StringIO):
    """A terminal that keeps what it is told."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


def small_run(sizes: tuple[int, int, int], batch_size: int) -> tuple[Callable[[int], Stream], int]:
    """Make a run of a network of two dense layers, as a function of its number of steps.

    Args:
        sizes: the numbers of features: in, hidden, out.
        batch_size: examples a batch.

    Returns:
        The run, and about how many steps of it fill a round.
    """
    n_in, n_hidden, n_out = sizes
    if n_out == 1:
        last, loss = lf.log_sigmoid(), lf.losses.log_sigmoid_loss()
        target = torch.arange(batch_size) % 2
    else:
        last, loss = lf.log_softmax(), lf.losses.nll()
        target = torch.arange(batch_size) % n_out
    net = lf.serial(lf.dense(n_hidden), lf.sigmoid(), lf.dense(n_out), last)
    x = lf.keys.normal(lf.Key(1), (batch_size, n_in))
    optimizer = lf.optim.sgd(0.01)
    step, state = lf.make_step(net, loss, optimizer), lf.init_state(net, optimizer, lf.Key(0), x)

    def run(steps: int) -> Stream:
        return lf.train(step, state, [(x, target)] * steps)

    seconds(run(200))
    return run, int(1000 * SECONDS / seconds(run(1000)))


def seconds(stream: Stream) -> float:
    """Time a stream from the end of its first step, which opens files, to the end of its last."""
    steps = iter(stream)
    next(steps)
    began = ended = time.perf_counter()
    for state, record in steps:
        ended = time.perf_counter()
    return ended - began


def cost(run: Callable[[int], Stream], steps: int, folder: Path) -> tuple[float, float, float]:
    """Compare a run that is watched with one that is not.

    Args:
        run: makes a run of so many steps.
        steps: how many.
        folder: for the log.

    Returns:
        The seconds of a plain step, and the cost of watching it in per cent: its median and the
        half width of the middle half of the rounds.
    """

    def watched() -> Stream:
        logged = lf.streams.logged(run(steps), folder / "log.csv", every=LOG_EVERY)
        return lf.streams.progress(logged, total=steps, file=Terminal())

    plain_seconds, costs = [], []
    for i in range(ROUNDS):
        # In turn the one and the other first, lest a machine that warms up favours one.
        ways = [lambda: seconds(run(steps)), lambda: seconds(watched())]
        times = [way() for way in ways] if i % 2 == 0 else [way() for way in ways[::-1]][::-1]
        plain_seconds.append(times[0] / steps)
        costs.append(100 * (times[1] / times[0] - 1))
    low, _, high = statistics.quantiles(costs, n=4)
    return statistics.median(plain_seconds), statistics.median(costs), (high - low) / 2


def main() -> None:
    """Print a line for each of two small networks."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, 1 thread, {ROUNDS} rounds of {SECONDS} s each way\n")
    print("network    batch  plain step  progress and log  half of the rounds within")
    with tempfile.TemporaryDirectory() as folder:
        for sizes, batch_size in (((784, 64, 10), 32), ((30, 10, 1), 128)):
            run, steps = small_run(sizes, batch_size)
            plain, median, spread = cost(run, steps, Path(folder))
            network = "-".join(map(str, sizes))
            line = f"{network:9}  {batch_size:5}  {1e6 * plain:7.1f} µs  {median:+14.2f} %"
            print(f"{line}  ± {spread:.2f} %")


if __name__ == "__main__":
    main()
