"""The total time of 1, 10, ... steps from a fresh process: `python -m benchmarks --length`.

Each program runs in a process of its own, one after another: first with an empty folder for
compiled code, then with the same folder again. The time begins before its library is imported, and
a loss is read after each step.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.peers import PEERS
from benchmarks.worker import environment, hold_to
from benchmarks.workloads import WORKLOADS

MODULE = "benchmarks.length"
LENGTHS = (1, 10, 100, 1_000, 10_000)
COMPARED = ("ours", "ours_compiled", "torch_eager", "torch_compile", "jax")
COMPILERS = ("ours_compiled", "torch_compile", "jax")
# By "empty" or "warm" and a peer: seconds by the number of steps, 0 of which is the import alone.
Seconds: TypeAlias = dict[str, dict[str, dict[int, float]]]


def run(peer: str, workload: str, optimizer: str, lengths: Sequence[int]) -> dict[int, float]:
    """Take steps in this process, and give the seconds after each of some numbers of them.

    Of several ways to write the program, the last is taken, which updates its state in place.
    """
    began = time.perf_counter()
    module = importlib.import_module(f"benchmarks.peers.{peer}")
    seconds = {0: time.perf_counter() - began}
    step = module.ways(WORKLOADS[workload], optimizer)[-1]().step
    for number in range(1, max(lengths) + 1):
        step()
        if number in lengths:
            seconds[number] = time.perf_counter() - began
    return seconds


def measure(
    names: Sequence[str], optimizer: str, threads: int, patience: float, *,
    peers: Sequence[str] = COMPARED, lengths: Sequence[int] = LENGTHS, is_warm: bool = True,
) -> dict[str, Seconds]:  # fmt: skip
    """Measure each workload with each peer; one that is not installed is left out, and named."""
    results: dict[str, Seconds] = {}
    for name in names:
        results[name] = {"empty": {}, "warm": {}} if is_warm else {"empty": {}}
        for peer in peers:
            command = [sys.executable, "-m", MODULE, peer, name, optimizer, str(threads)]
            command += map(str, lengths)
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                # Compiled headers are kept in the temporary folder, wherever the cache is.
                caches = {"TORCHINDUCTOR_CACHE_DIR": folder, "TMPDIR": folder}
                caches["JAX_COMPILATION_CACHE_DIR"] = folder
                caches["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
                for found in results[name].values():
                    try:
                        done = subprocess.run(
                            command, capture_output=True, text=True, timeout=patience,
                            env=environment(**caches), check=True,
                        )  # fmt: skip
                    except subprocess.SubprocessError as error:
                        why = str(getattr(error, "stderr", None) or error).splitlines()[-1]
                        print(f"{name}: {peer} is left out: {why}", file=sys.stderr, flush=True)
                        break
                    numbers = json.loads(done.stdout.splitlines()[-1])
                    found[peer] = {int(steps): seconds for steps, seconds in numbers.items()}
    return results


def table(results: Mapping[str, Seconds]) -> str:
    """Make the table of seconds, and mark the least of each column."""
    lines = ["", "Seconds from a fresh process, after so many steps; * is the least"]
    for name, of_caches in results.items():
        for caches, found in of_caches.items():
            lengths = sorted({n for of in found.values() for n in of})
            heads = "".join(f"{n or 'import':>10}" for n in lengths)
            lines.append(f"{name}, {caches} caches".ljust(30) + heads)
            for peer, of in found.items():
                cells = []
                for n in lengths:
                    least = min(other[n] for other in found.values())
                    cells.append(f"{of[n]:.2f}{'*' if of[n] == least else ' '}")
                lines.append(f"  {PEERS[peer]:28}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def picture(path: Path, results: Mapping[str, Seconds], title: str) -> None:
    """Save a picture: for each workload, seconds against steps; dotted with empty caches."""
    from matplotlib.figure import Figure

    across = min(3, len(results))
    down = -(-len(results) // across)
    figure = Figure(figsize=(max(5, 4 * across), 0.8 + 3 * down), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid: Any = figure.subplots(down, across, squeeze=False).ravel()  # Any: an array of axes
    for axes, (name, of_caches) in zip(grid, results.items(), strict=False):
        for caches, found in of_caches.items():
            for i, (peer, of) in enumerate(found.items()):
                points = [(n, seconds) for n, seconds in of.items() if n]
                style = {"color": f"C{i}", "linestyle": ":" if caches == "empty" else "-"}
                label = PEERS[peer] if caches != "empty" or len(of_caches) == 1 else None
                axes.loglog(*zip(*points, strict=True), marker=".", label=label, **style)
        axes.set_title(name, fontsize=10)
        axes.tick_params(labelsize=8)
    for axes in grid[len(results) :]:
        axes.axis("off")
    grid[0].legend(fontsize=7)
    figure.supxlabel("steps; dotted: with empty caches", fontsize=9)
    figure.supylabel("seconds from a fresh process", fontsize=9)
    figure.savefig(path, dpi=130, format="png")


def compile_times(results: Mapping[str, Seconds]) -> str:
    """Make the table of seconds from the import to the first loss, with empty caches."""
    lines = ["Seconds from an empty cache to the first loss, beside the import", ""]
    lines.append(f"{'workload':12}" + "".join(f"{PEERS[peer]:>16}" for peer in COMPILERS))
    for name, of in results.items():
        found = {peer: seconds[1] - seconds[0] for peer, seconds in of["empty"].items()}
        cells = [f"{found[peer]:.1f}" if peer in found else "-" for peer in COMPILERS]
        lines.append(f"{name:12}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Print the seconds of one program."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("peer", choices=COMPARED)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("optimizer")
    parser.add_argument("threads", type=int)
    parser.add_argument("lengths", type=int, nargs="+")
    options = parser.parse_args()
    hold_to(options.threads, to_processors=True)
    print(json.dumps(run(options.peer, options.workload, options.optimizer, options.lengths)))


if __name__ == "__main__":
    main()
