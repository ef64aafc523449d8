"""What happens in each layer: norms of outputs and gradients, the outputs' values; a diagram."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import fill, shorten

import numpy as np
import torch
from torch import Tensor

from lincoln_fn import inspect
from lincoln_fn.combine import plan_of
from lincoln_fn.core import Arrays, Layer, Params, called, tree
from lincoln_fn.losses import Loss
from lincoln_fn.plots._figure import COLOURS, Axes, Numbers, axes_grid, new_axes, new_figure


def flow(
    net: Layer,
    params: Params,
    x: Arrays,
    loss: Loss,
    target: Arrays,
    *,
    axes: Axes | None = None,
) -> Axes:
    """Draw the norms of y and g at each layer: forward from top to bottom, and back upwards.

    g is dL/dy, which the layer's `backward` is given. If its line runs to the left on its way up,
    the gradients vanish; to the right, they explode. A norm that is 0 or not finite has no place
    on the logarithmic scale: it is a gap in the line, with the value beside it.

    Args:
        loss: with reduction mean or sum.

    Returns:
        The axes. The first line is |y|, the second |g|, from the first layer to the last; a gap is
        a `nan`.

    Example:
        >>> x, net = torch.tensor([[3.0, 4.0]]), lf.serial(lf.relu(), lf.identity())
        >>> axes = flow(net, ((), ()), x, lf.losses.mse(reduction="sum"), torch.zeros(1, 2))
        >>> [line.get_xdata().tolist() for line in axes.lines]
        [[5.0, 5.0], [10.0, 10.0]]
    """
    records = inspect.trace(net, params, x, loss, target)
    axes = axes or new_axes(7.2, max(3.0, 1.4 + 0.26 * len(records)))
    axes.set_xscale("log")
    going = [record.output_norm for record in records]
    coming = [record.gradient_norm for record in records]
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    for label, norms, look, colour, side in (
        ("|y|, forward", going, "v-", COLOURS[0], "left"),
        ("|g|, backward", coming, "^--", COLOURS[1], "right"),
    ):
        shown = [n if n and math.isfinite(n) else math.nan for n in norms]
        axes.plot(shown, range(len(norms)), look, color=colour, markersize=5, label=label)
        for i, norm in enumerate(norms):
            if norm is not None and math.isnan(shown[i]):
                axes.text(
                    0.01 if side == "left" else 0.99, i, f"{label[:3]} = {norm:g}", ha=side,
                    va="center", color=colour, fontsize="small", bbox=box,
                    transform=axes.get_yaxis_transform(),
                )  # fmt: skip
    labels = [shorten(record.label, 48, placeholder=" …") for record in records]
    axes.set_yticks(range(len(records)), labels, fontsize="small")
    axes.set_ylim(len(records) - 0.5, -0.5)
    axes.set(xlabel="norm", title="Norms, forward and back")
    axes.grid(alpha=0.3)
    axes.legend()
    return axes


def gradient_norms(norms: Mapping[int, Mapping[str, float]], *, axes: Axes | None = None) -> Axes:
    """Draw the norm of each layer's gradient at each step, as a colour on a logarithmic scale.

    Rows that darken towards the top, where the first layer is, show gradients that vanish on their
    way back; rows that brighten, gradients that explode.

    Args:
        norms: by step, norms by layer, as `lf.inspect.trace(...).gradient_norms()` gives them. A
            layer may be missing from a step. What is missing, 0 or not finite is grey.

    Example:
        >>> norms = {0: {"0 dense(3)": 0.1, "1 tanh()": 0.5}, 100: {"0 dense(3)": 0.2}}
        >>> gradient_norms(norms).images[0].get_array().tolist()
        [[0.1, 0.2], [0.5, None]]
    """
    layers = list(dict.fromkeys(layer for at_step in norms.values() for layer in at_step))
    if not layers:
        raise ValueError("gradient_norms: expected norms of at least one layer, got none")
    steps = sorted(norms)
    values = np.array([[norms[step].get(layer, math.nan) for step in steps] for layer in layers])
    axes = axes or new_axes(7.2, max(4.8, 1.2 + 0.22 * len(layers)))
    from matplotlib.colors import LogNorm

    shown = np.ma.masked_where(~np.isfinite(values) | (values <= 0), values)
    scale = LogNorm() if shown.count() else None  # no values, so no range of a log scale
    image = axes.imshow(shown, cmap="viridis", norm=scale, aspect="auto", interpolation="nearest")
    axes.set_facecolor("lightgrey")
    axes.set_yticks(range(len(layers)), layers, fontsize="small")
    apart = math.ceil(len(steps) / 8)
    axes.set_xticks(range(0, len(steps), apart), [str(step) for step in steps[::apart]])
    axes.set(xlabel="step", title="Gradients by layer")
    axes.figure.colorbar(image, ax=axes, label="norm of dL/dy")
    return axes


def activations(
    outputs: Mapping[str, Arrays], *, bins: int = 40, axes: Sequence[Axes] | None = None
) -> tuple[Axes, ...]:
    """Draw a histogram of each layer's output.

    Args:
        outputs: by layer, as `lf.inspect.trace(...).outputs()` gives them. Values that are not
            finite are left out, and counted in the title.
        bins: the number of bars, of equal width, from the smallest value to the largest.
        axes: one for each layer; None makes a figure with up to three in a row.

    Returns:
        The axes, one for each layer. The heights of the bars are shares of the finite values.

    Example:
        >>> (axes,) = activations({"relu()": torch.tensor([0.0, 0.0, 0.0, 1.0])}, bins=2)
        >>> [float(bar.get_height()) for bar in axes.patches]
        [0.75, 0.25]
    """
    if not outputs:
        raise ValueError("activations: expected at least one layer's output, got none")
    if axes is None:
        columns = math.ceil(math.sqrt(min(len(outputs), 9)))
        rows = math.ceil(len(outputs) / columns)
        figure = new_figure(6.4 if columns < 3 else 9.0, max(4.8, 2.2 * rows))
        figure.suptitle("Activations by layer")
        figure.supylabel("share of the values", fontsize="medium")
        axes = axes_grid(figure, rows, columns, len(outputs))
    if len(axes) != len(outputs):
        raise ValueError(f"activations: expected {len(outputs)} axes, got {len(axes)}")
    for one, (layer, output) in zip(axes, outputs.items(), strict=True):
        _histogram(one, layer, output, bins)
    return axes if isinstance(axes, tuple) else tuple(axes)


def _histogram(axes: Axes, layer: str, output: Arrays, bins: int) -> None:
    leaves = [leaf.flatten() for leaf in tree.leaves(output) if leaf.is_floating_point()]
    values = torch.cat(leaves).double().cpu() if leaves else torch.empty(0)
    finite = values[torch.isfinite(values)]
    lost = len(values) - len(finite)
    axes.set_title(fill(layer, 34) + (f"\n{lost} not finite" if lost else ""), fontsize="medium")
    axes.tick_params(labelsize="small")
    if len(finite):
        share = torch.full_like(finite, 1 / len(finite)).numpy()
        axes.hist(finite.numpy(), bins=bins, weights=share, color=COLOURS[0])
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)


def graph(
    net: Layer, gradients: Mapping[str, Arrays] | None = None, *, axes: Axes | None = None
) -> Axes:
    """Draw the values of a graph from top to bottom, with a line from each to those it enters.

    A value stands below all that it is computed of. Arguments and parameters have their own colour.

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


def _curve(start: tuple[float, float], end: tuple[float, float]) -> tuple[Numbers, Numbers]:
    """Return the points of a line, which makes a bow around values between its ends."""
    bow = 0.4 if start[1] - end[1] > 1 else 0.0
    xs, ys = np.linspace(start, end, 21).T
    t = np.linspace(0, 1, 21)
    return xs + 4 * bow * t * (1 - t), ys


def _lower_parameters(levels: list[int], sources: list[tuple[int, ...]]) -> None:
    """Put what has no inputs just above the first value that reads it."""
    for j, of_value in enumerate(sources):
        readers = [levels[i] for i, inputs in enumerate(sources) if j in inputs]
        if not of_value and readers:
            levels[j] = min(readers) - 1
