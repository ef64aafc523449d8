"""The norms of outputs and gradients by layer: of a walk through a network, and step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from textwrap import shorten

import numpy as np

from lincoln_fn import inspect
from lincoln_fn.core import Arrays, Layer, Params
from lincoln_fn.losses import Loss
from lincoln_fn.plots._figure import COLOURS, Axes, new_axes


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
        target: the target that the loss takes.
        axes: to draw on; None makes a figure tall enough for all layers.

    Returns:
        The axes. The first line is |y|, the second |g|, from the first layer to the last; a gap is
        a `nan`.

    Raises:
        LayerError: as `lf.inspect.trace` does.

    Example:
        >>> x, net = torch.tensor([[3.0, 4.0]]), lf.serial(lf.relu(), lf.identity())
        >>> axes = flow(net, ((), ()), x, lf.losses.mse(reduction="sum"), torch.zeros(1, 2))
        >>> [line.get_xdata().tolist() for line in axes.lines]
        [[5.0, 5.0], [10.0, 10.0]]
    """
    records = inspect.trace(net, params, x, loss, target)
    axes = new_axes(7.2, max(3.0, 1.4 + 0.26 * len(records))) if axes is None else axes
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
        axes: to draw on; None makes a figure tall enough for all layers.

    Returns:
        The axes. The image's array has a row for each layer and a column for each step.

    Raises:
        ValueError: if there are no norms.

    Example:
        >>> norms = {0: {"0 dense(3)": 0.1, "1 tanh()": 0.5}, 100: {"0 dense(3)": 0.2}}
        >>> gradient_norms(norms).images[0].get_array().tolist()
        [[0.1, 0.2], [0.5, None]]
    """
    layers = list(dict.fromkeys(layer for at_step in norms.values() for layer in at_step))
    if not layers:
        raise ValueError("gradient_norms: expected norms of at least one layer, got none")
    steps = sorted(norms)
    rows = [[norms[step].get(layer, math.nan) for step in steps] for layer in layers]
    if axes is None:
        axes = new_axes(7.2, max(4.8, 1.2 + 0.22 * len(layers)))
    from matplotlib.colors import LogNorm

    values = np.array(rows)
    shown = np.ma.masked_where(~np.isfinite(values) | (values <= 0), values)
    scale = LogNorm() if shown.count() else None  # no values, so no range of a log scale
    image = axes.imshow(shown, cmap="viridis", norm=scale, aspect="auto", interpolation="nearest")
    axes.set_facecolor("lightgrey")
    axes.set_yticks(range(len(layers)), layers, fontsize="small")
    apart = math.ceil(len(steps) / 8)
    axes.set_xticks(range(0, len(steps), apart), [str(step) for step in steps[::apart]])
    axes.set(xlabel="step")
    axes.set_title("Gradients by layer")
    axes.figure.colorbar(image, ax=axes, label="norm of dL/dy")
    return axes
