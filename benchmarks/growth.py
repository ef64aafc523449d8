"""How time and memory of a step grow with batch, width and depth: `python -m benchmarks --growth`.

The network is made of equal dense layers with ReLU. Ours is shown eager, and for depth also with
checkpointed segments, as many as the square root of the number of layers; torch is eager. An
exponent is fitted over the larger half of the sizes, where what a call costs counts least.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import attrs
import numpy as np

import lincoln_fn as lf
from benchmarks import memory
from benchmarks.peers import Way, ours, torch_eager
from benchmarks.workloads import Workload, dense_network

BASE = {"batch": 1024, "width": 64, "depth": 16}
SIZES = {
    "batch": (128, 256, 512, 1024, 2048, 4096, 8192),
    "width": (32, 64, 128, 256, 512, 1024),
    "depth": (4, 9, 16, 25, 36, 64, 100, 144),
}
PROGRAMS = ("ours", "torch eager", "ours, checkpointed")


class Point(NamedTuple):
    """What one step costs at one size."""

    size: int
    seconds: float
    bytes: int


Curves = Mapping[str, Sequence[Point]]


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fit c size^e to costs by least squares of the logarithms; give e.

    Args:
        sizes: at least two different ones, ascending; the larger half of them counts.
        costs: a positive number for each.

    Returns:
        The exponent.
    """
    first = (len(sizes) - 1) // 2
    return float(np.polyfit(np.log(sizes[first:]), np.log(costs[first:]), 1)[0])


def network(batch: int, width: int, depth: int) -> Workload:
    """Describe `depth` equal layers."""
    workload = dense_network("grown", (width,) * (depth + 1), batch, "relu")
    # With less gain the numbers of a deep network would sink to where processors are slow.
    return attrs.evolve(workload, distinct=1, gain=2.0)


def checkpointed(workload: Workload) -> lf.Layer:
    """Make our network in segments that keep their input alone."""
    layers = ours.network(workload).parts
    depth = (len(layers) + 1) // 2  # a dense layer and a ReLU, but for the last
    length = 2 * math.isqrt(depth)
    segments = [layers[i : i + length] for i in range(0, len(layers), length)]
    return lf.serial(*(lf.checkpointed(lf.serial(*segment)) for segment in segments))


def programs(workload: Workload, axis: str) -> dict[str, Callable[[], Way]]:
    """Give what is compared, by name."""
    made = {
        "ours": ours.ways(workload, "sgd")[0],
        "torch eager": torch_eager.ways(workload, "sgd")[0],
    }
    if axis == "depth":
        made["ours, checkpointed"] = partial(ours.way, checkpointed(workload), workload, "sgd")
    return made


def measure(sizes: Mapping[str, Sequence[int]] = SIZES, rounds: int = 9) -> dict[str, Curves]:
    """Measure along each axis; the programs' steps are taken in turn.

    Args:
        sizes: by axis, ascending.
        rounds: how often each step is timed.

    Returns:
        By axis and program, the points.
    """
    results: dict[str, dict[str, list[Point]]] = {}
    for axis, along in sizes.items():
        results[axis] = {}
        for size in along:
            makes = programs(network(**{**BASE, axis: size}), axis)
            times = _seconds({name: make().step for name, make in makes.items()}, rounds)
            for name, make in makes.items():
                point = Point(size, statistics.median(times[name]), memory.tensors_peak(make))
                results[axis].setdefault(name, []).append(point)
    return results


def _seconds(steps: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if number >= 2:
                times[name].append(time.perf_counter() - began)
    return times


def table(results: Mapping[str, Curves]) -> str:
    """Make the table of exponents."""
    base = ", ".join(f"{name} {size}" for name, size in BASE.items())
    lines = [f"Exponents of growth, from a network of {base}, SGD\n"]
    lines.append(f"{'grows with':12}{'program':22}{'time':>8}{'memory':>8}   sizes")
    for axis, curves in results.items():
        for name, points in curves.items():
            sizes = [point.size for point in points]
            of_time = exponent(sizes, [point.seconds for point in points])
            of_bytes = exponent(sizes, [point.bytes for point in points])
            range_ = f"{sizes[0]} to {sizes[-1]}"
            lines.append(f"{axis:12}{name:22}{of_time:8.2f}{of_bytes:8.2f}   {range_}")
    return "\n".join(lines)


def picture(path: Path, results: Mapping[str, Curves], title: str) -> None:
    """Save the plot: time above, memory below, a column for each axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(results), 7.2), layout="constrained")
    figure.suptitle(title, fontsize=11)
    grid = figure.subplots(2, len(results), squeeze=False)
    for column, (axis, curves) in enumerate(results.items()):
        for row, (what, unit) in enumerate((("time", 1e-3), ("memory", 2**20))):
            axes = grid[row][column]
            for name, points in curves.items():
                sizes = [point.size for point in points]
                costs = [(p.seconds if what == "time" else p.bytes) / unit for p in points]
                label = f"{name}: {exponent(sizes, costs):.2f}"
                axes.loglog(sizes, costs, ".-", color=_COLOURS[name], label=label)
            axes.set(xlabel=axis, ylabel="a step, ms" if what == "time" else "peak, MiB")
            axes.set_xticks(sizes, [str(size) for size in sizes], fontsize=8)
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
            axes.tick_params(axis="y", which="both", labelsize=8)
            axes.grid(alpha=0.3)
            axes.legend(title="exponent", fontsize=8, title_fontsize=8)
    figure.savefig(path, dpi=130, format="png")


_COLOURS = dict(zip(PROGRAMS, ("#1f6f8b", "#c8553d", "#7fb069"), strict=True))
