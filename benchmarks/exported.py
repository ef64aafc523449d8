"""Exported steps in ONNX Runtime, beside the eager and the compiled step: `--exported`.

Each step is written by `lf.export_step` and runs on one thread: here, in onnxruntime; and in node,
in onnxruntime-web, which npm installs in a temporary folder and which browsers run, too. The first
losses are compared before a time counts. Times are medians.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnxruntime
import torch

import lincoln_fn as lf
from benchmarks.peers import ours
from benchmarks.workloads import WORKLOADS

DEFAULT = tuple(name for name in WORKLOADS if name != "mlp-wide")
HEADS = ("eager", "compiled", "onnxruntime", "onnxruntime-web")
FIRST = 10  # steps whose losses are compared
TOLERANCE = 1e-3
NODE = Path(__file__).with_name("exported.mjs")
RUNTIME = "onnxruntime-web@1.22.0"


class _Training:
    """A workload's step, its first state and a batch, and their files."""

    def __init__(self, name: str, optimizer: str, folder: Path) -> None:
        workload = WORKLOADS[name]
        net, descent = ours.network(workload), ours.make_optimizer(optimizer)
        self.step = lf.make_step(net, ours.loss(workload), descent)
        self.state = ours.start(workload, net, descent)
        self.batch = ours.batches(workload)[0]
        self.path = folder / f"{name}.step.onnx"
        self.values = folder / f"{name}.state.onnx"
        lf.export_step(self.step, self.state, self.batch, self.path, defaults=self.values)
        batch = {
            key: {
                "type": str(leaf.dtype).removeprefix("torch."),
                "shape": list(leaf.shape),
                "numbers": leaf.flatten().tolist(),
            }
            for key, leaf in zip(("x", "target"), self.batch, strict=True)
        }
        (folder / f"{name}.json").write_text(json.dumps(batch))

    def with_step(self, step: lf.Step) -> Callable[[], float]:
        """Give what takes the next step here."""
        state = self.state

        def take() -> float:
            nonlocal state
            state, loss = step(state, self.batch)
            return loss.item()

        return take

    def exported(self) -> Callable[[], float]:
        """Give what takes the next step in onnxruntime."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        open_file = onnxruntime.InferenceSession
        session, values = open_file(str(self.path), options), open_file(str(self.values), options)
        names = [node.name for node in values.get_outputs()]
        state = dict(zip(names, values.run(None, {}), strict=True))
        x, target = (leaf.numpy() for leaf in self.batch)

        def take() -> float:
            nonlocal state
            *new, loss = session.run(None, {**state, "x": x, "target": target})
            state = dict(zip(names, new, strict=True))
            return float(loss)

        return take


def _timed(take: Callable[[], float], seconds: float) -> tuple[float, list[float]]:
    """Return a step's milliseconds, and the first losses."""
    losses, times = [take() for _ in range(FIRST)], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        take()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times), losses


def measure(
    names: Sequence[str], optimizer: str, seconds: float, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Time each workload's step by each runtime, on one thread."""
    torch.set_num_threads(1)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        install = ["npm", "install", "--silent", "--prefix", made, RUNTIME]
        subprocess.run(install, check=True, timeout=600)
        losses: dict[str, list[float]] = {}
        for name in names:
            training = _Training(name, optimizer, folder)
            takes = (
                training.with_step(training.step),
                training.with_step(lf.compile(training.step)),
                training.exported(),
            )
            results[name] = {}
            for head, take in zip(HEADS, takes, strict=False):
                results[name][head], found = _timed(take, seconds)
                _compare(name, head, found, losses.setdefault(name, found))
            say(f"{name}: {results[name]}")
        ran = subprocess.run(
            ["node", str(NODE), made, str(seconds), *names],
            check=True, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        for name, found in json.loads(ran.stdout.splitlines()[-1]).items():
            _compare(name, HEADS[-1], found["losses"], losses[name])
            results[name][HEADS[-1]] = found["ms"]
    return results


def _compare(name: str, head: str, given: Sequence[float], expected: Sequence[float]) -> None:
    for a, b in itertools.zip_longest(given, expected):
        if abs(a - b) > TOLERANCE * max(1.0, abs(b)):
            raise AssertionError(f"{name}: the losses of {head} are {given}, not {expected}")


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Make the table of milliseconds."""
    lines = ["Milliseconds of a step, on one thread", "", f"{'workload':12}"]
    lines[-1] += "".join(f"{head:>17}" for head in HEADS)
    for name, of in results.items():
        lines.append(f"{name:12}" + "".join(f"{of[head]:17.3g}" for head in HEADS))
    return "\n".join(lines)
