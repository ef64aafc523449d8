"""The table of `benchmarks.optimizers`: what the finished runs have reached, after how long."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def loss_of(result: dict[str, object]) -> float:
    """Return a run's held-out loss; infinite if it diverged."""
    loss = result["held_out"]
    return loss if isinstance(loss, float) else math.inf


def reached(result: dict[str, object], loss: float) -> int | None:
    """Return the steps until the held-out part's loss is so low; None if it never is."""
    curve: list[tuple[int, float]] = result["curve"]  # type: ignore[assignment]
    return next((step for step, value in curve if value <= loss), None)


def table(results: Sequence[dict[str, object]], losses: Sequence[float]) -> str:
    """Make the table, and add the loss that every optimizer reaches in every run."""
    groups: dict[tuple[str, str], list[dict[str, object]]] = {}
    for result in results:
        groups.setdefault((str(result["optimizer"]), str(result["library"])), []).append(result)
    lowest = [
        min((value for _, value in result["curve"]), default=math.inf)  # type: ignore[attr-defined]
        for result in results
    ]
    finite = [value for value in lowest if math.isfinite(value)]
    of_all = math.ceil(100 * max(finite)) / 100 if finite else math.inf
    levels = [*losses, of_all]
    heads = " | ".join(f"steps to {level:.2f} | seconds" for level in levels)
    lines = [
        f"| optimizer | lr | seeds | held out | ms a step | {heads} |",
        "| --- " * (5 + 2 * len(levels)) + "|",
    ]
    order = sorted(groups, key=lambda key: statistics.mean(map(loss_of, groups[key])))
    for key in order:
        runs = groups[key]
        ends = [loss_of(run) for run in runs]
        spread = f" ± {statistics.stdev(ends):.3f}" if len(ends) > 1 else ""
        per_step = statistics.median(
            1000 * run["seconds"] / run["steps"]  # type: ignore[operator]
            for run in runs
        )
        cells = [
            " ".join(key).removesuffix(" ours"), f"{runs[0]['lr']:.2g}", str(len(runs)),
            f"{statistics.mean(ends):.3f}{spread}", f"{per_step:.1f}",
        ]  # fmt: skip
        for level in levels:
            found = [each for run in runs if (each := reached(run, level)) is not None]
            if len(found) < len(runs):
                cells += [f"{len(found)} of {len(runs)}" if found else "-", "-"]
            else:
                steps = statistics.mean(found)
                cells += [f"{steps:.0f}", f"{steps * per_step / 1000:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
