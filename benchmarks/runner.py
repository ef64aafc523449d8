"""Measuring: a process for each peer, all alive at once, which take turns in rounds.

Whatever slows the machine down for a while so slows all peers alike, and ratios are taken within a
round. A process that is not measured is stopped by a signal, so that its threads cannot spin.
"""

from __future__ import annotations

import json
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from benchmarks.peers import BASELINE, FLOOR, OURS
from benchmarks.worker import KEEP_FREED_MEMORY, environment

CHECKED_STEPS = 20
TOLERANCE = 1e-3


@attrs.frozen
class Row:
    """What was measured of one peer on one workload.

    Args:
        peer: its module.
        what: its version, and which of its ways is the fastest.
        setup_seconds: to build, compile and take the first step; nothing imported.
        seconds: a step, a figure for each round; () if the row is absent or refused.
        why: it is absent or refused; None if it is not.
    """

    peer: str
    what: str = ""
    setup_seconds: float | None = None
    seconds: tuple[float, ...] = ()
    why: str | None = None

    @property
    def median(self) -> float:
        """The seconds of a step, the middle of the rounds."""
        return statistics.median(self.seconds)


class Process:
    """A peer's process. It runs only while it is asked."""

    def __init__(
        self,
        peer: str,
        workload: str,
        optimizer: str,
        threads: int,
        patience: float,
        variables: Mapping[str, str] = {},
        *,
        is_held: bool = True,
    ) -> None:
        self.peer = peer
        # Compile times are of a first run: nothing is found that an earlier one compiled.
        self._caches = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        folder = self._caches.name
        caches = {"TORCHINDUCTOR_CACHE_DIR": folder, "CACHEDB": f"{folder}/tinygrad.db"}
        variables = {**variables, **caches}
        # Torch eager is as its tutorials write it, and ours says so itself.
        if peer not in (BASELINE, *OURS):
            variables |= KEEP_FREED_MEMORY
        command = [sys.executable, "-m", "benchmarks.worker"]
        anywhere = [] if is_held else ["--anywhere"]
        self._process = subprocess.Popen(
            [*command, peer, workload, optimizer, str(threads), *anywhere],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(**variables),
            text=True,
        )
        self.ready = self.answer(patience)

    def take(self, steps: int) -> dict[str, Any]:
        """Let it take steps; give the seconds that they took, and their losses."""
        self.ask(steps=steps)
        return self.answer()

    def ask(self, **what: float) -> None:
        """Let it begin to take steps."""
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._caches.cleanup()

    def answer(self, patience: float | None = None) -> dict[str, Any]:
        """Wait for what it answers, and stop it."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], patience)[0]:
            return {"absent": f"it was not set up within {patience:.0f} s"}
        line = self._process.stdout.readline()
        if not line:
            return {"absent": f"its process ended with code {self._process.wait()}"}
        self._process.send_signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        return answer


def measure(
    workload: str,
    optimizer: str,
    peers: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    threads: int,
    patience: float,
    say: Callable[[str], object],
) -> list[Row]:
    """Measure peers on a workload.

    Args:
        workload: its name.
        optimizer: its name.
        peers: their modules; torch eager, whose losses are the measure of the others', is one.
        rounds: how often each peer has its turn.
        seconds: about how long a turn takes.
        threads: how many each peer may use.
        patience: seconds after which a peer that is not yet set up is left out.
        say: is told what happens.

    Returns:
        A row for each peer.
    """
    processes: list[Process] = []
    rows: dict[str, Row] = {}
    expected: list[float] = []
    try:
        for peer in [BASELINE, *(peer for peer in peers if peer != BASELINE)]:
            say(f"{workload}: setting up {peer}")
            process = Process(peer, workload, optimizer, threads, patience)
            processes.append(process)
            rows[peer], losses = checked(process, expected)
            if peer == BASELINE:
                expected = losses
            if rows[peer].why:
                processes.pop().end()
        say(f"{workload}: {rounds} rounds of {len(processes)} peers")
        counts = {process.peer: _steps(process, seconds) for process in processes}
        times: dict[str, list[float]] = {process.peer: [] for process in processes}
        for number in range(rounds):
            # Each begins a round in its turn, so that none always follows the same one.
            first = number % len(processes)
            for process in processes[first:] + processes[:first]:
                count = counts[process.peer]
                times[process.peer].append(process.take(count)["seconds"] / count)
    finally:
        for process in processes:
            process.end()
    for peer, of_peer in times.items():
        rows[peer] = attrs.evolve(rows[peer], seconds=tuple(of_peer))
    return [rows[peer] for peer in peers]


def checked(process: Process, expected: Sequence[float]) -> tuple[Row, list[float]]:
    """Take the first steps of a peer and hold its losses against those expected.

    Args:
        process: the peer's.
        expected: the losses; empty for the peer that gives them.

    Returns:
        A row without times, and the peer's losses.
    """
    if "absent" in process.ready:
        return Row(process.peer, why=process.ready["absent"]), []
    ready = process.ready
    answer = process.take(CHECKED_STEPS - 1)
    if "absent" in answer:
        return Row(process.peer, why=answer["absent"]), []
    losses = [ready["first_loss"], *answer["losses"]]
    why = None if process.peer == FLOOR else disagreement(losses, expected)
    return Row(process.peer, ready["what"], ready["setup_seconds"], why=why), losses


def disagreement(losses: Sequence[float], expected: Sequence[float]) -> str | None:
    """Say where losses leave those expected by more than the tolerance, or None."""
    for i, (loss, wanted) in enumerate(zip(losses, expected, strict=False)):
        if not abs(loss - wanted) <= TOLERANCE * abs(wanted):  # nan is refused too
            return f"refused: its loss at step {i + 1} is {loss:.6g}, torch's {wanted:.6g}"
    return None


def _steps(process: Process, seconds: float) -> int:
    """Choose how many steps make a turn, after a while of warming up."""
    count, took = 2, 0.0
    while took < min(seconds, 0.1):
        took = process.take(count)["seconds"]
        step = took / count
        count = max(1, min(10 * count, round(seconds / step)))
    return count


def ratio(ours: Row, theirs: Row) -> tuple[float, float, float]:
    """Give the ratio of two rows' steps: the median of the rounds, the lower and upper quartile."""
    pairs = sorted(a / b for a, b in zip(ours.seconds, theirs.seconds, strict=True))
    quarter = len(pairs) // 4
    return statistics.median(pairs), pairs[quarter], pairs[-1 - quarter]
