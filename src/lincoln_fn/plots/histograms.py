"""The distribution of the values in each layer's output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import fill

import torch

from lincoln_fn.core import Arrays, tree
from lincoln_fn.plots._figure import COLOURS, Axes, axes_grid, new_figure


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

    Raises:
        ValueError: if there is no output, or the number of axes is wrong.

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
    title = fill(layer, 34) + (f"\n{lost} not finite" if lost else "")
    axes.set_title(title, fontsize="medium")
    axes.tick_params(labelsize="small")
    if len(finite):
        share = torch.full_like(finite, 1 / len(finite)).numpy()
        axes.hist(finite.numpy(), bins=bins, weights=share, color=COLOURS[0])
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
