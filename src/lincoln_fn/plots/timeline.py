"""The timeline of a pipeline's step: what each stage computes when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lincoln_fn.plots._figure import COLOURS, Axes, new_axes

if TYPE_CHECKING:
    from lincoln_fn.distributed import Plan

_COLOUR_OF: Final = {"F": COLOURS[0], "B": COLOURS[4], "W": COLOURS[2], "sum": COLOURS[3]}
_NAMES: Final = {"F": "F: forward", "B": "B: dx", "W": "W: dparams", "sum": "sum of gradients"}
# With more actions, the numbers would overlap at the figure's default size.
_MOST_WRITTEN: Final = 400


def timeline(plan: Plan, *, axes: Axes | None = None) -> Axes:
    """Draw when each stage computes which microbatch; what is white is waiting.

    Args:
        plan: from `lf.distributed.plan`.

    Returns:
        The axes. Each action is a bar, with the number of its microbatch if there is room.

    Example:
        >>> from lincoln_fn.distributed.pipeline_parallel.plan import plan
        >>> from lincoln_fn.distributed.pipeline_parallel.simulation import Times
        >>> schedule = lf.distributed.gpipe(stages=2, microbatches=3)
        >>> axes = timeline(plan((), None, schedule, times=[Times()] * 2))
        >>> len(axes.patches)
        18
    """
    count = len(plan.times)
    axes = new_axes(9.0, 1.2 + 0.45 * count) if axes is None else axes
    bars: list[tuple[str, int, float, float, str]] = [
        (each.kind, each.stage, each.begin, each.end, str(each.microbatch))
        for each in plan.intervals
    ]
    for stage, seconds in enumerate(plan.gradient_sum):
        if seconds:
            end = plan.span(stage)[1]
            bars.append(("sum", stage, end - seconds, end, ""))
    named: set[str] = set()
    for kind, stage, begin, end, number in bars:
        axes.barh(
            stage, end - begin, left=begin, height=0.9, color=_COLOUR_OF[kind],
            edgecolor="white", linewidth=0.5, label=None if kind in named else _NAMES[kind],
        )  # fmt: skip
        named.add(kind)
        if len(bars) <= _MOST_WRITTEN:
            colour = "white" if kind == "F" else "black"
            axes.text(
                (begin + end) / 2, stage, number,
                ha="center", va="center", fontsize=7, color=colour,
            )  # fmt: skip
    axes.set_yticks(range(count), [f"stage {stage}" for stage in range(count)])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title(f"bubble {plan.bubble:.1%} of the time computed", fontsize="medium")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4, frameon=False)
    return axes
