"""The seconds from an empty cache to the first loss: `python -m benchmarks --compile-time`.

Each program runs in a process of its own, one after another, with a folder for compiled code that
is empty. The time begins when its modules are imported, and ends with the loss of its first step.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from benchmarks.worker import environment, hold_to
from benchmarks.workloads import WORKLOADS

MODULE = "benchmarks.compile_time"
PEERS = ("ours_compiled", "torch_compile", "jax")
HEADS = ("ours", "torch.compile", "JAX", "/ torch.compile", "/ JAX")


def first_step(peer: str, workload: str, optimizer: str) -> float:
    """Give the seconds that a program takes to its first loss, in this process.

    Of several ways to write it, the last is taken, which updates its state in place.
    """
    module = importlib.import_module(f"benchmarks.peers.{peer}")
    ways = module.ways(WORKLOADS[workload], optimizer)
    began = time.perf_counter()
    ways[-1]().step()
    return time.perf_counter() - began


def measure(
    names: Sequence[str], optimizer: str, threads: int, patience: float
) -> dict[str, dict[str, float]]:
    """Measure each workload with each peer; a peer that is not installed is left out."""
    results: dict[str, dict[str, float]] = {}
    for name in names:
        results[name] = {}
        for peer in PEERS:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                command = [sys.executable, "-m", MODULE, peer, name, optimizer, str(threads)]
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=patience,
                    # Compiled headers are kept in the temporary folder, wherever the cache is.
                    env=environment(TORCHINDUCTOR_CACHE_DIR=folder, TMPDIR=folder),
                )
            if done.returncode == 0:
                results[name][peer] = float(done.stdout.split()[-1])
        print(f"{name}: {results[name]}", file=sys.stderr, flush=True)
    return results


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Make the table of seconds, and of ours as a part of the others'."""
    lines = ["Seconds from an empty cache to the first loss", ""]
    lines.append(f"{'workload':12}" + "".join(f"{head:>16}" for head in HEADS))
    for name, of in results.items():
        seconds = [of.get(peer) for peer in PEERS]
        ours = seconds[0]
        ratios = [ours / other if ours and other else None for other in seconds[1:]]
        cells = [*(_cell(s, "6.1f") for s in seconds), *(_cell(r, "6.2f") for r in ratios)]
        lines.append(f"{name:12}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def main() -> None:
    """Print the seconds of one program."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("optimizer")
    parser.add_argument("threads", type=int)
    options = parser.parse_args()
    hold_to(options.threads, to_processors=True)
    print(first_step(options.peer, options.workload, options.optimizer))


if __name__ == "__main__":
    main()
