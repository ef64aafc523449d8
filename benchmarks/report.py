"""What is shown of the measurements: a table of ratios, the rows behind it, JSON and a picture."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers import BASELINE, FLOOR, OURS, PEERS
from benchmarks.runner import Row, ratio

CAPTION = (
    "Our step's time, and the better of eager and compiled as a part of each other's time: the\n"
    "median of the rounds' ratios, and half the distance of their quartiles"
)


class Machine(NamedTuple):
    """What the measurements were made on."""

    processor: str
    system: str
    python: str
    threads: int

    def __str__(self) -> str:
        return f"{self.processor}; {self.system}; Python {self.python}; {self.threads} threads"


def machine(threads: int) -> Machine:
    """Describe this machine."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = lines[0].partition(": ")[2] if lines else processor
    cores = f"{os.cpu_count()} cores"
    return Machine(f"{processor}, {cores}", platform.system(), platform.python_version(), threads)


def best(rows: Sequence[Row], peers: Sequence[str]) -> Row | None:
    """Give the fastest of some peers' rows; None if there is none with times."""
    measured = [row for row in rows if row.peer in peers and row.seconds]
    return min(measured, key=lambda row: row.median, default=None)


def table(results: Mapping[str, Sequence[Row]]) -> str:
    """Make the table: our step's time as a part of each peer's, and of the floor's.

    Args:
        results: by workload, its rows.

    Returns:
        A line for each workload. Ours is the better of eager and compiled.
    """
    measured = {row.peer for rows in results.values() for row in rows}
    shown = [peer for peer in PEERS if peer in measured]
    others = [peer for peer in shown if peer not in OURS and peer != FLOOR]
    heads = [PEERS[peer] for peer in shown if peer in OURS]
    heads += [f"/ {PEERS[peer]}" for peer in others]
    heads += ["/ best peer"] if others else []
    heads += ["/ floor"] if FLOOR in shown else []
    lines = [["workload", *heads]]
    for workload, rows in results.items():
        of = {row.peer: row for row in rows}
        ours = best(rows, OURS)
        cells = [_time(of[peer]) for peer in shown if peer in OURS]
        cells += [_ratio(ours, of[peer]) for peer in others]
        cells += [_ratio(ours, best(rows, others))] if others else []
        cells += [_ratio(ours, of[FLOOR])] if FLOOR in shown else []
        lines.append([workload, *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def details(results: Mapping[str, Sequence[Row]]) -> str:
    """List the rows: a step's time, its spread, the set-up, what it is or why it is missing."""
    lines = []
    for workload, rows in results.items():
        lines.append(f"\n{workload}")
        for row in rows:
            name = f"  {PEERS[row.peer]:15}"
            if row.seconds:
                ordered = sorted(row.seconds)
                spread = f"{_seconds(ordered[0])} to {_seconds(ordered[-1])}"
                setup = "" if row.peer == FLOOR else f"set-up {row.setup_seconds:6.2f} s"
                lines.append(f"{name}{_seconds(row.median):>10}{spread:>24}   {setup:18}{row.what}")
            else:
                lines.append(f"{name}{'-':>10}   {row.why}")
    return "\n".join(lines)


def as_data(results: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Give all that was measured, each round's seconds included.

    Args:
        results: by workload, its rows.

    Returns:
        What JSON can hold.
    """
    workloads = {}
    for workload, rows in results.items():
        ours = best(rows, OURS)
        others = [row.peer for row in rows if row.peer not in OURS and row.peer != FLOOR]
        rival = best(rows, others)
        against = {
            "torch_eager": best(rows, (BASELINE,)),
            "best_peer": rival,
            "floor": best(rows, (FLOOR,)),
        }
        workloads[workload] = {
            "rows": [
                {
                    "peer": row.peer,
                    "what": row.what,
                    "setup_seconds": row.setup_seconds,
                    "median_seconds": row.median if row.seconds else None,
                    "seconds": list(row.seconds),
                    "why_missing": row.why,
                }
                for row in rows
            ],
            "ours": ours and ours.peer,
            "best_peer": rival and rival.peer,
            "ratios": {
                name: dict(zip(("median", "lower", "upper"), ratio(ours, row), strict=True))
                for name, row in against.items()
                if ours and row
            },
        }
    return {"workloads": workloads}


def picture(path: Path, results: Mapping[str, Sequence[Row]], title: str) -> None:
    """Save a picture: for each workload, each peer's step as a multiple of ours.

    Args:
        path: of the PNG file.
        results: by workload, its rows.
        title: what stands above.
    """
    from matplotlib.figure import Figure

    across = min(3, len(results))
    down = -(-len(results) // across)
    figure = Figure(figsize=(max(7, 4.6 * across), 0.8 + 2.6 * down), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[len(results) :]:
        axes.set_axis_off()
    for axes, (workload, rows) in zip(grid, results.items(), strict=False):
        measured = [row for row in rows if row.seconds][::-1]
        ours = best(rows, OURS)
        unit = (ours or measured[0]).median
        widths = [row.median / unit for row in measured]
        colours = [_COLOURS.get(row.peer, "#9aa5b1") for row in measured]
        bars = axes.barh([PEERS[row.peer] for row in measured], widths, color=colours)
        axes.bar_label(bars, [f"{width:.2f}" for width in widths], padding=3, fontsize=8)
        axes.axvline(1, color="#333333", linewidth=0.8, linestyle=":")
        axes.set_title(f"{workload}, ours {_seconds(unit)}", fontsize=10)
        axes.set_xlim(0, max(widths) * 1.15)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    below = "time of a step as a multiple of ours, the better of eager and compiled"
    figure.supxlabel(below, fontsize=9)
    figure.savefig(path, dpi=130, format="png")


_COLOURS = {"ours": "#1f6f8b", "ours_compiled": "#1f6f8b", FLOOR: "#d8c7a0"}


def _time(row: Row) -> str:
    return _seconds(row.median) if row.seconds else "-"


def _ratio(ours: Row | None, theirs: Row | None) -> str:
    if ours is None or theirs is None or not theirs.seconds:
        return "-"
    median, lower, upper = ratio(ours, theirs)
    return f"{median:.2f} ±{(upper - lower) / 2:.2f}"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
