"""Steps on a machine that is not alone: `python -m benchmarks --busy`.

A peer takes steps for a while alone, beside one, two and three processes that only compute, and
beside a second process that does the same as it. Each setting of its threads has a process of its
own, since OpenMP reads its variables once.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from benchmarks.peers import PEERS
from benchmarks.runner import Process
from benchmarks.worker import environment

# By name, the variables and the number of threads of a peer's process.
Settings = Mapping[str, tuple[Mapping[str, str], int]]
SETTINGS: Final[Settings] = {
    "as it comes": ({}, 2),
    "passive": ({"OMP_WAIT_POLICY": "passive"}, 2),
    "one thread": ({}, 1),
}
LOOPS: Final = (0, 1, 2, 3)
TWICE: Final = "twice"
_LOOP: Final = "from benchmarks.worker import end_with_parent as end; end()\nwhile True: pass"

# Steps a second: alone, beside one to three loops, and of each of two at once.
Rates = dict[str, list[float]]


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Run processes that only compute, as long as the block lasts."""
    command = [sys.executable, "-c", _LOOP]
    loops = [subprocess.Popen(command, env=environment()) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(
    workload: str,
    optimizer: str,
    peers: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    patience: float,
    settings: Settings = SETTINGS,
) -> Mapping[str, Rates]:
    """Count the steps of a workload, in each company and with each setting.

    Args:
        workload: its name.
        optimizer: its name.
        peers: their modules.
        rounds: how often each is counted, in turn.
        seconds: how long it is counted.
        patience: seconds after which a peer that is not yet set up is left out.
        settings: by name, the variables and the number of threads.

    Returns:
        By peer and setting, the median steps a second: beside each number of loops, and last of
        each of two at once.
    """
    with ExitStack() as ends:
        pairs: dict[str, list[Process]] = {}
        for peer in peers:
            for setting, (variables, threads) in settings.items():
                pair = [
                    Process(peer, workload, optimizer, threads, patience, variables, is_held=False)
                    for _ in range(2)
                ]
                for process in pair:
                    ends.callback(process.end)
                if not any("absent" in process.ready for process in pair):
                    pairs[f"{PEERS[peer]}, {setting}"] = pair
        counted = {name: {beside: [] for beside in (*LOOPS, TWICE)} for name in pairs}
        for _ in range(rounds):
            for count in LOOPS:
                with busy_loops(count):
                    for name, pair in pairs.items():
                        counted[name][count].append(together(pair[:1], seconds))
            for name, pair in pairs.items():
                counted[name][TWICE].append(together(pair, seconds))
        return {
            name: {str(beside): statistics.median(of) for beside, of in by_company.items()}
            for name, by_company in counted.items()
        }


def together(processes: Sequence[Process], seconds: float) -> float:
    """Let processes take steps at the same time; give the steps a second of the slowest."""
    for process in processes:
        process.ask(seconds=seconds)
    answers = [process.answer() for process in processes]
    return min(answer["steps"] / answer["seconds"] for answer in answers)


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Make the table: steps a second."""
    heads = ["alone", "1 loop", "2 loops", "3 loops", "twice, each"]
    lines = []
    for workload, rates in results.items():
        lines.append(f"{workload:32}" + "".join(f"{head:>13}" for head in heads))
        for name, by_company in rates.items():
            lines.append(f"  {name:30}" + "".join(f"{rate:13.4g}" for rate in by_company.values()))
    return "\n".join(lines)
