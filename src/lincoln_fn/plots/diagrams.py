"""The diagram of a graph: which value is computed of which."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lincoln_fn.combine import plan_of
from lincoln_fn.core import Arrays, Layer, called
from lincoln_fn.plots._figure import COLOURS, Axes, new_axes


def graph(
    net: Layer, gradients: Mapping[str, Arrays] | None = None, *, axes: Axes | None = None
) -> Axes:
    """Draw the values of a graph from top to bottom, with a line from each to those it enters.

    A value stands below all that it is computed of. Arguments and parameters have a colour of their
    own.

    Args:
        net: made by `lf.graph`.
        gradients: from `lf.gradients_by_name`, to write the norm of each below its name.

    Returns:
        The axes. Each value is a text, in the order of the computation, arguments first; each line
        leads from a value to one that reads it.

    Example:
        >>> axes = graph(lf.graph(lambda x, y: (x * y).exp() + x))
        >>> [text.get_text() for text in axes.texts], len(axes.lines)
        (['x', 'y', 'multiply()', 'exp()', 'add()'], 5)
    """
    plan = plan_of("plots.graph", net)
    sources = [*[()] * len(plan.arguments), *(node.inputs for node in plan.nodes)]
    names = [*plan.arguments, *(node.name for node in plan.nodes)]
    calls = [*plan.arguments, *(part.name.partition(" = ")[2] for part in net.parts)]
    levels: list[int] = []
    for of_value in sources:
        levels.append(1 + max((levels[j] for j in of_value), default=-1))
    _lower_parameters(levels, sources)
    places, filled = [], [0] * (1 + max(levels))
    for level in levels:
        places.append((filled[level] - (levels.count(level) - 1) / 2, -level))
        filled[level] += 1
    axes = axes or new_axes(1.0 + 1.7 * max(filled), 0.8 + 0.6 * len(filled))
    for i, of_value in enumerate(sources):
        for j in of_value:
            xs, ys = _curve(places[j], places[i])
            axes.plot(xs, ys, color="0.7", linewidth=1, zorder=1)
    for i, (x, y) in enumerate(places):
        name, call = names[i], calls[i]
        is_named = name.rstrip("_0123456789") != called(call)
        shown = name if not sources[i] else f"{name} = {call}" if is_named else call
        if gradients and isinstance(gradient := gradients.get(name), Tensor):
            shown += f"\n|g| = {gradient.norm():.3g}"
        colour = COLOURS[0] if sources[i] else COLOURS[1]
        box = {"boxstyle": "round", "facecolor": "white", "edgecolor": colour}
        axes.text(x, y, shown, ha="center", va="center", fontsize=7, bbox=box, zorder=2)
    axes.set_xlim(-max(filled) / 2 - 0.1, max(filled) / 2 + 0.1)
    axes.set_ylim(-len(filled) + 0.4, 0.6)
    axes.set_axis_off()
    return axes


def _curve(start: tuple[float, float], end: tuple[float, float]) -> tuple[list[float], list[float]]:
    """Return the points of a line, which makes a bow around values between its ends."""
    bow = 0.4 if start[1] - end[1] > 1 else 0.0
    steps = [i / 20 for i in range(21)]
    xs = [start[0] + (end[0] - start[0]) * t + 4 * bow * t * (1 - t) for t in steps]
    return xs, [start[1] + (end[1] - start[1]) * t for t in steps]


def _lower_parameters(levels: list[int], sources: list[tuple[int, ...]]) -> None:
    """Put what has no inputs just above the first value that reads it."""
    for j, of_value in enumerate(sources):
        readers = [levels[i] for i, inputs in enumerate(sources) if j in inputs]
        if not of_value and readers:
            levels[j] = min(readers) - 1
