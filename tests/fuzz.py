"""Fuzz compiled steps: random networks, losses, optimizers and batches, eager against compiled.

    python tests/fuzz.py --minutes 60                   an hour, from seed 0
    python tests/fuzz.py --minutes 60 --seed 5000 --workers 4
    python tests/fuzz.py --only 123                     one seed, and a smaller network that differs
    python tests/fuzz.py --tables lstm adam             rows of the tests' tables, by their names

A compiled run is off if it is farther from float64's numbers than some eager runs are. A network
that is off is printed with its seed, and the command fails. The suite runs a few seeds.
"""

import argparse
import logging
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection, wait

import torch
from helpers.fuzzing import tables
from helpers.fuzzing.compare import Outcome, outcome, smaller
from helpers.fuzzing.trial import of_row, trial

# A worker is replaced after as many trials, for compiled steps stay in memory.
TRIALS_PER_WORKER = 30
LONGEST = 900  # seconds of one trial


def words(text: str) -> set[str]:
    """List the constructors in a repr."""
    return set(re.findall(r"(\w+)\(", text))


def work(pipe: Connection, seeds: range) -> None:
    """Run trials, and tell each before it begins and as it ends."""
    torch.set_num_threads(1)
    logging.getLogger("lincoln_fn").setLevel(logging.ERROR)  # every trial compiles
    for seed in seeds:
        pipe.send((seed, "", None))
        try:
            drawn = trial(seed)
            pipe.send((seed, str(drawn), None))
            told = outcome(drawn)
        except Exception as error:  # the generator found an error of a layer's
            told = Outcome("differs", f"while drawn: {type(error).__name__}: {error}")
        pipe.send((seed, None, told))
    pipe.send((None, None, None))


class Worker:
    """A process, the trial that it is at, and since when."""

    def __init__(self, first: int, stride: int) -> None:
        self.seeds = range(first, first + stride * TRIALS_PER_WORKER, stride)
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, self.seeds))
        self.process.start()
        theirs.close()
        self.seed, self.shown, self.since = first, "", time.monotonic()


class Tally:
    """What was run, and what came of it."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.layers: Counter[str] = Counter()
        self.chaotic = 0

    def add(self, shown: str, told: Outcome, seed: int) -> None:
        self.kinds[told.kind] += 1
        self.chaotic += told.is_chaotic
        if told.kind != "refused":
            self.layers.update(words(shown))
        if told.kind == "differs":
            print(f"{shown or f'seed {seed}'}\n  DIFFERS {told.reason}\n", flush=True)

    def report(self) -> bool:
        """Print the counts, and tell whether anything differs."""
        for name, count in sorted(self.layers.items()):
            print(f"{count:6} {name}")
        counts = ", ".join(f"{self.kinds[kind]} {kind}" for kind in ("same", "refused", "differs"))
        print(f"{self.kinds.total()} networks: {counts}; {self.chaotic} chaotic")
        return self.kinds["differs"] > 0


def fuzz(minutes: float, seed: int, count: int) -> bool:
    """Run trials for some minutes, in some processes."""
    end, tally = time.monotonic() + 60 * minutes, Tally()
    workers = [Worker(seed + i, count) for i in range(count)]
    while workers:
        ready = wait([worker.pipe for worker in workers], timeout=5)
        for worker in list(workers):
            next_seed = told_by(worker, worker.pipe in ready, tally)
            is_late = time.monotonic() > end
            if next_seed is None and not is_late:
                continue
            worker.process.kill()
            worker.process.join()
            workers.remove(worker)
            if not is_late and next_seed is not None:
                workers.append(Worker(next_seed, count))
    return tally.report()


def told_by(worker: Worker, is_ready: bool, tally: Tally) -> int | None:
    """Read one message; give the seed that a new process begins at, if this one has ended."""
    behind = worker.seed + worker.seeds.step
    if not is_ready:
        if time.monotonic() - worker.since < LONGEST:
            return None
        reason = f"took more than {LONGEST} seconds"
        tally.add(worker.shown, Outcome("differs", reason), worker.seed)
        return behind
    try:
        seed, shown, told = worker.pipe.recv()
    except EOFError:
        worker.process.join()
        reason = f"the process died: {worker.process.exitcode}"
        tally.add(worker.shown, Outcome("differs", reason), worker.seed)
        return behind
    if seed is None:
        return behind
    if told is None:
        worker.seed, worker.shown, worker.since = seed, shown, time.monotonic()
    else:
        tally.add(worker.shown, told, seed)
    return None


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--only", type=int, help="run this seed alone, and reduce what differs")
    parser.add_argument("--tables", nargs="*", help="words in the rows' names; none for all rows")
    chosen = parser.parse_args()
    if chosen.only is None and chosen.tables is None:
        return fuzz(chosen.minutes, chosen.seed, chosen.workers)
    torch.set_num_threads(1)
    if chosen.only is not None:
        return alone(chosen.only)
    tally = Tally()
    for row in tables.rows():
        if not chosen.tables or any(word in row.name for word in chosen.tables):
            drawn = of_row(row, 0)
            tally.add(f"{row.name}\n{drawn}", outcome(drawn), 0)
    return tally.report()


def alone(seed: int) -> bool:
    """Run one trial, and reduce what differs."""
    drawn = trial(seed)
    print(drawn)
    told = outcome(drawn)
    print(told.kind, told.reason, "(chaotic)" if told.is_chaotic else "", flush=True)
    if told.kind == "differs":
        less = smaller(drawn)
        print(f"\nreduced: {less}\n  {outcome(less).reason}")
    return told.kind == "differs"


if __name__ == "__main__":
    # What is compiled here is not for other processes.
    with tempfile.TemporaryDirectory() as cache:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", cache)
        sys.exit(main())
