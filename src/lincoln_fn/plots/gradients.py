"""The norms of gradients, by layer and step."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lincoln_fn.plots._figure import Axes, new_axes


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
