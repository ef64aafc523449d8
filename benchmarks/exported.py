"""Exported steps in ONNX Runtime, beside the eager and the compiled step: `--exported`.

Each step is written by `lf.export_step` and runs on one thread: here, in onnxruntime; in node, in
onnxruntime-web, which npm installs in a temporary folder; and with `--chromium` in headless
Chromium, which runs onnxruntime-web from a server on this machine. Everywhere, the params after 1,
10 and 100 steps are compared with those of the eager step before a time counts. A time is that of
the processor, which other work on the machine hardly changes: the median of rounds, in each of
which a runtime takes as many steps as last some tenths of a second.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

import lincoln_fn as lf
from benchmarks.exported_files import COMPARED, Files, Take
from benchmarks.exported_outside import Measure, in_chromium, in_node

TOLERANCE: Final = 0.1  # what a wrong step exceeds; rounding grows with the steps
HERE: Final = ("eager", "formulas", "compiled", "onnxruntime", "convolutions")


@attrs.frozen
class Result:
    """Milliseconds of a step, and the params' largest difference from eager ones, by runtime."""

    ms: dict[str, float] = attrs.field(factory=dict)
    off: dict[str, list[float]] = attrs.field(factory=dict)
    kilobytes: dict[str, float] = attrs.field(factory=dict)


def measure(
    names: Sequence[str],
    rounds: int,
    seconds: float,
    with_chromium: bool,
    say: Callable[[str], None],
) -> dict[str, Result]:
    """Time each network's step by each runtime, on one thread.

    Args:
        names: of the networks.
        rounds: how often each runtime has its turn.
        seconds: about as long is a turn.
        with_chromium: whether it takes part.
        say: is told of each network's times.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as opened:
        folder = Path(made)
        outside: dict[str, Measure] = {"node": in_node(folder, rounds, seconds)}
        if with_chromium:
            outside["Chromium"] = opened.enter_context(in_chromium(folder, rounds, seconds))
        results = {}
        for name in names:
            results[name] = _here(name, folder, rounds, seconds)
            for runtime, run in outside.items():
                found = run(name)
                results[name].ms[runtime] = found["ms"]
                results[name].off[runtime] = _checked(name, runtime, found["off"])
            say(f"{name}: {results[name]}")
    return results


def _here(name: str, folder: Path, rounds: int, seconds: float) -> Result:
    """Compare and time the steps that run in this process, in turns."""
    files = Files(name, folder)
    step = files.training.step
    formulas = lf.make_step(step.net, step.loss, step.optimizer, fast=False)
    takes = {
        head: take
        for head, take in zip(
            HERE,
            (
                files.here(step), files.here(formulas), files.here(lf.compile(step)),
                files.exported(), files.convolutions(),
            ),
            strict=True,
        )
        if take is not None
    }  # fmt: skip
    result = Result()
    expected: list[list[NDArray[Any]]] = []
    for head, take in takes.items():
        states = [take(count) for count in np.diff(COMPARED, prepend=0)]
        expected = expected or states
        if head not in ("eager", "convolutions"):
            off = [_largest_difference(*pair) for pair in zip(states, expected, strict=True)]
            result.off[head] = _checked(name, head, off)
    files.write(folder, name, expected)
    del takes["formulas"]  # only to compare with
    result.ms.update(_timed(takes, rounds, seconds))
    for what, path in (("step", files.path), ("state", files.values)):
        result.kilobytes[what] = path.stat().st_size / 1000
    return result


def _timed(takes: Mapping[str, Take], rounds: int, seconds: float) -> dict[str, float]:
    """Return the milliseconds of a step by what takes it."""

    def once(take: Take, count: int) -> float:
        began = time.process_time()
        take(count)
        return (time.process_time() - began) / count

    counts = {head: max(1, int(seconds / once(take, 5))) for head, take in takes.items()}
    times: dict[str, list[float]] = {head: [] for head in takes}
    for _ in range(rounds):
        for head, take in takes.items():
            times[head].append(1000 * once(take, counts[head]))
    return {head: statistics.median(of) for head, of in times.items()}


def _largest_difference(given: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> float:
    return max(
        float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
        for a, b in zip(given, expected, strict=True)
    )


def _checked(name: str, runtime: str, off: list[float]) -> list[float]:
    if not max(off) < TOLERANCE:
        raise AssertionError(f"{name}: the params of {runtime} are off by {off} after {COMPARED}")
    return off


def tables(results: Mapping[str, Result]) -> str:
    """Make the tables of milliseconds, differences and sizes."""
    heads = list(dict.fromkeys(head for of in results.values() for head in of.ms))
    lines = [
        "Milliseconds of the processor for a step, on one thread: medians",
        "",
        _row("", heads),
    ]
    for name, of in results.items():
        lines.append(_row(name, [f"{of.ms[head]:.3g}" if head in of.ms else "" for head in heads]))
    runtimes = list(dict.fromkeys(head for of in results.values() for head in of.off))
    steps = ", ".join(map(str, COMPARED))
    lines += ["", f"The params' largest difference from eager ones after {steps} steps", ""]
    lines.append(_row("", runtimes, 26))
    for name, of in results.items():
        cells = [" ".join(f"{off:.0e}" for off in of.off[head]) for head in runtimes]
        lines.append(_row(name, cells, 26))
    lines += ["", "Kilobytes of the files", "", _row("", ["step", "state"])]
    for name, of in results.items():
        lines.append(_row(name, [f"{size:.1f}" for size in of.kilobytes.values()]))
    return "\n".join(lines)


def _row(name: str, cells: Sequence[str], width: int = 14) -> str:
    return f"{name:12}" + "".join(f"{cell:>{width}}" for cell in cells)
