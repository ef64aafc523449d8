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
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import torch
from helpers.fuzzing.compare import Outcome, outcome, smaller
from helpers.fuzzing.trial import ROWS, of_row, trial

# A worker is replaced after as many trials, for compiled steps stay in memory.
TRIALS_PER_WORKER = 30
LONGEST = 900  # seconds of one trial


def words(text: str) -> set[str]:
    """List the constructors in a repr."""
    return set(re.findall(r"(\w+)\(", text))


def work(pipe: Connection, seeds: range) -> None:
    """Run trials, and tell (seed, trial, outcome) as each begins, without an outcome, and ends."""
    torch.set_num_threads(1)
    logging.getLogger("lincoln_fn").setLevel(logging.ERROR)  # every trial compiles
    for seed in seeds:
        pipe.send((seed, f"seed {seed}", None))
        try:
            drawn = trial(seed)
            pipe.send((seed, str(drawn), None))
            pipe.send((seed, str(drawn), outcome(drawn)))
        except Exception as error:  # the generator found an error of a layer's
            told = Outcome("differs", f"while drawn: {type(error).__name__}: {error}")
            pipe.send((seed, f"seed {seed}", told))


class Tally:
    """What was run, and what came of it."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.layers: Counter[str] = Counter()
        self.chaotic = 0

    def add(self, shown: str, told: Outcome) -> None:
        self.kinds[told.kind] += 1
        self.chaotic += told.is_chaotic
        if told.kind != "refused":
            self.layers.update(words(shown))
        if told.kind == "differs":
            print(f"{shown}\n  DIFFERS {told.reason}\n", flush=True)

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
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda i: run(seed + i, count, end, tally), range(count)))
    return tally.report()


def run(seed: int, stride: int, end: float, tally: Tally) -> None:
    """Run trials until an end in time, in one process after the other."""
    context = multiprocessing.get_context("spawn")
    while time.monotonic() < end:
        pipe, theirs = context.Pipe()
        seeds = range(seed, seed + stride * TRIALS_PER_WORKER, stride)
        process = context.Process(target=work, args=(theirs, seeds))
        process.start()
        theirs.close()
        shown, reason = f"seed {seed}", ""
        try:
            while pipe.poll(wait := min(LONGEST, max(end - time.monotonic(), 0.0))):
                seed, shown, told = pipe.recv()
                if told:
                    tally.add(shown, told)
            reason = f"took more than {LONGEST} seconds" if wait == LONGEST else ""
            process.kill()
        except EOFError:
            process.join()
            reason = f"the process died: {process.exitcode}" if process.exitcode else ""
        if reason:
            tally.add(shown, Outcome("differs", reason))
        process.join()
        seed += stride


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
    for name in ROWS:
        if not chosen.tables or any(word in name for word in chosen.tables):
            drawn = of_row(name, 0)
            tally.add(f"{name}\n{drawn}", outcome(drawn))
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
