"""Every optimizer on nanoGPT's CPU configuration: steps and seconds to a loss, torch's beside.

    python -m benchmarks.optimizers shakespeare.txt --folder runs --seed 0 1 2 3 4
    python -m benchmarks.optimizers shakespeare.txt --folder runs --table

The network, the batches and the clipping of gradients are those of examples/char_nanogpt.py. All
runs of a seed begin with the same weights and learn from the same windows.

All are tuned alike. Rates half a decade apart are tried, from a first one up and down, until the
best lies between two worse ones. A rate is tried for `--search-steps` steps of one seed, which is
not among those of the table, and the best has the lowest held-out loss. The rate rises in the first
twentieth of the steps, and falls along half a cosine to a tenth; for schedule_free it stays, and
rprop has no schedule. All other settings are the defaults, except that the second beta of Adam's
relatives is .99, as in nanoGPT, and that decoupled weight decay is .1. Torch's optimizer gets the
rate that was found for ours.

Each finished run is a file in `--folder`, and is not run again. So the command can be stopped, and
run in several processes with different `--optimizer` or `--seed`. Each process has one thread. The
table has the processor's milliseconds of a step, the median of the runs, and as seconds the mean
steps to a loss times these. Denormals are flushed, as a guide of the documentation advises: some of
these rates make many.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lincoln_fn as lf
from benchmarks import report
from benchmarks.contenders import CONTENDERS
from benchmarks.nanogpt import Network, characters, example, windows
from benchmarks.optimizer_table import loss_of, table
from lincoln_fn import optim, schedules

SEARCH_SEED = 1000
EVERY = 50  # steps between two measures of the held-out text's first windows
WINDOWS = 200


class Run(NamedTuple):
    """One training: which optimizer, at which rate, of how many steps and of which seed."""

    optimizer: str
    library: str  # "ours" or "torch"
    lr: float
    steps: int
    seed: int

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.optimizer}-{self.library}-{self.lr:.3g}-{self.steps}-{self.seed}.json"


def schedule(lr: float, steps: int, *, constant: bool) -> lf.schedules.Schedule:
    """Rise for a twentieth of the steps, then stay, or fall to a tenth along half a cosine."""
    rise = max(steps // 20, 1)
    then = (
        schedules.constant(lr) if constant else schedules.cosine(lr, max(steps - rise, 1), lr / 10)
    )
    return schedules.linear_warmup(then, rise, start_factor=1 / (rise + 1))


class Ours:
    """A training by lincoln_fn."""

    def __init__(self, net: lf.Layer, params: lf.Params, run: Run) -> None:
        contender = CONTENDERS[run.optimizer]
        rate = schedule(run.lr, run.steps, constant=contender.constant)
        optimizer = optim.chain(optim.clip_by_global_norm(1.0), contender.make(rate))
        gradient = contender.gradient() if contender.gradient else None
        self.net = net
        loss = lf.losses.softmax_cross_entropy()
        self.step = lf.make_step(net, loss, optimizer, gradient=gradient)
        x = torch.zeros(1, example.LENGTH, dtype=torch.long)
        self.state = lf.init_state(net, optimizer, lf.Key(0), x, params=params, gradient=gradient)

    def take(self, x: Tensor, target: Tensor) -> None:
        """Take a step."""
        self.state, _ = self.step(self.state, (x, target))

    def predictor(self) -> tuple[lf.Layer, lf.Params]:
        """Give the network and the parameters to predict with."""
        params, opt_state = self.state.params, self.state.opt_state
        if isinstance(opt_state, optim.ScheduleFreeState):
            params = optim.schedule_free_params(opt_state, params)
        return self.net, params


class Torch:
    """A training by torch."""

    def __init__(self, net: lf.Layer, params: lf.Params, run: Run) -> None:
        contender = CONTENDERS[run.optimizer]
        assert contender.torch is not None
        self.net, self.count = Network(params), 0
        self.optimizers = contender.torch(self.net, run.lr)
        self.rates = schedule(run.lr, run.steps, constant=contender.constant)
        self.is_scheduled = run.optimizer != "rprop"

    def take(self, x: Tensor, target: Tensor) -> None:
        """Take a step."""
        for optimizer in self.optimizers:
            if self.is_scheduled:
                optimizer.param_groups[0]["lr"] = self.rates(self.count).item()
        F.cross_entropy(self.net(x).flatten(0, 1), target.flatten()).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.count += 1

    def predictor(self) -> tuple[lf.Layer, lf.Params]:
        """Give the network as a layer."""
        return lf.Layer("torch", lambda params, x: (self.net(x).mT, ()), lambda *_: ((), ())), ()


def held_out(program: Ours | Torch, codes: Tensor) -> float:
    """Compute the loss on held-out text."""
    net, params = program.predictor()
    with torch.no_grad():
        bits = characters.bits_per_character(net, params, codes, example.LENGTH)
    return bits * math.log(2)


def train(run: Run, text: characters.Text) -> dict[str, object]:
    """Train; return the losses on the way, the last one, and the processor's seconds."""
    key = lf.Key(run.seed)
    net = example.make_network(len(text.alphabet))
    params = net.init(key, torch.zeros(1, example.LENGTH, dtype=torch.long))
    program = (Ours if run.library == "ours" else Torch)(net, params, run)
    part = text.held_out[: WINDOWS * example.LENGTH + 1]
    curve: list[tuple[int, float]] = []
    seconds, problem = 0.0, ""
    for i, (x, target) in enumerate(windows(text, key, run.steps), start=1):
        began = time.process_time()
        try:
            program.take(x, target)
        except lf.NonFiniteError as error:
            problem = str(error)
            break
        seconds += time.process_time() - began
        if i % EVERY == 0 or i == run.steps:
            curve.append((i, held_out(program, part)))
    last = math.inf if problem else held_out(program, text.held_out)
    return {
        **run._asdict(), "curve": curve, "seconds": seconds, "problem": problem,
        "held_out": last if math.isfinite(last) else None,
    }  # fmt: skip


def find_or_train(run: Run, text: characters.Text, folder: Path) -> dict[str, object]:
    """Read a run's file, or train and write it."""
    file = folder / run.file
    if file.exists():
        return dict(json.loads(file.read_text()))
    result = train(run, text)
    unfinished = file.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(result))
    unfinished.rename(file)
    print(
        f"{run.optimizer:13s} {run.library:5s} lr {run.lr:<8.3g} {run.steps:5d} steps"
        f"  seed {run.seed:4d}  held out {loss_of(result):.4f}  {result['seconds']:7.1f} s",
        flush=True,
    )
    return result


def best_rate(name: str, steps: int, text: characters.Text, folder: Path) -> float:
    """Find the learning rate of the lowest loss; those of half a decade more and less are worse."""
    tried: dict[float, float] = {}
    best = 0.0
    while untried := [step for step in (best, best - 0.5, best + 0.5) if step not in tried]:
        for decades in untried:
            run = Run(name, "ours", CONTENDERS[name].first * 10**decades, steps, SEARCH_SEED)
            tried[decades] = loss_of(find_or_train(run, text, folder))
        best = min(tried, key=tried.__getitem__)
    return CONTENDERS[name].first * 10**best


def results_in(folder: Path, steps: int) -> Iterator[dict[str, object]]:
    """Read the finished runs of so many steps, without those of the search."""
    for file in sorted(folder.glob("*.json")):
        result = json.loads(file.read_text())
        if result["steps"] == steps and result["seed"] != SEARCH_SEED:
            yield result


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="the file of tiny Shakespeare")
    parser.add_argument("--folder", type=Path, required=True, help="of the finished runs")
    parser.add_argument("--optimizer", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--library", nargs="+", choices=("ours", "torch"), default=["ours"])
    parser.add_argument("--seed", type=int, nargs="*", default=[0], help="none: search alone")
    parser.add_argument("--steps", type=int, default=example.STEPS)
    parser.add_argument("--search-steps", type=int, default=200)
    parser.add_argument("--loss", type=float, nargs="*", default=[1.88, 1.95])
    parser.add_argument("--table", action="store_true", help="print the table of what is finished")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, train what is not finished, and print the table."""
    options = parse_options(arguments)
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.table:
        print(report.machine(1), flush=True)
        text = characters.load_text(options.text)
        rates = {
            name: best_rate(name, options.search_steps, text, options.folder)
            for name in options.optimizer
        }
        for seed in options.seed:
            for name, lr in rates.items():
                for library in options.library:
                    if library == "ours" or CONTENDERS[name].torch is not None:
                        run = Run(name, library, lr, options.steps, seed)
                        find_or_train(run, text, options.folder)
    print(table(list(results_in(options.folder, options.steps)), options.loss))


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    main()
