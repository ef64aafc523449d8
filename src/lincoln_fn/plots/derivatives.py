"""A layer's function and its derivative, which the layer's own backward pass computes."""

from __future__ import annotations

from textwrap import fill
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, Layer, LayerError, Params, check_argument, tree
from lincoln_fn.plots._figure import COLOURS, Axes, new_axes, signed_image
from lincoln_fn.plots.slopes import draw_params, is_random, jacobian_matrix, jumps, slopes

_POINTS: Final = 1001
# With more examples, the lines between them would cover the picture.
_MOST_EXAMPLES: Final = 40


def layer(
    layer: Layer,
    params: Params | None = None,
    *,
    low: float = -5.0,
    high: float = 5.0,
    axes: Axes | None = None,
) -> Axes:
    """Draw an activation y and its derivative dy/dx against x.

    The derivative is what the layer's `input_grad` returns for g = 1. A line breaks where the
    function jumps. A layer with a random key is drawn as points, because each has its own random
    number.

    Args:
        layer: works element by element, such as `lf.gelu()` or `lf.dropout(0.5)`.
        params: its parameters; None draws them from `lf.Key(0)`.
        low: the smallest x.
        high: the largest x.

    Returns:
        The axes. The first line is y, the second dy/dx; a break is a `nan`.

    Raises:
        ValueError: if an element of y depends on several elements of x.
        LayerError: if layer is not a `Layer`, or does not take a row of numbers.

    Example:
        >>> axes = layer(lf.relu(), low=-2, high=2)
        >>> [line.get_ydata()[[0, -1]].tolist() for line in axes.lines[:2]]
        [[0.0, 2.0], [0.0, 1.0]]
    """
    check_argument("layer", "layer", Layer, layer)
    dtypes = {leaf.dtype for leaf in tree.leaves(params) if leaf.is_floating_point()}
    x = torch.linspace(low, high, _POINTS, dtype=dtypes.pop() if dtypes else torch.float64)
    try:
        params = draw_params(layer, x, params)
        y, slope = slopes(layer, params, x)
    except LayerError as error:
        problem = f"expected a layer that works element by element, got {layer}"
        raise LayerError("layer", f"{problem}; lf.plots.jacobian draws any layer") from error
    axes = new_axes(6.4, 4.0) if axes is None else axes
    if is_random(params):
        axes.plot(x, y, ".", color=COLOURS[0], markersize=3, label="y")
        axes.plot(x, slope, ".", color=COLOURS[1], markersize=3, label="dy/dx")
    else:
        axes.plot(*_break_at_jumps(x, y), "-", color=COLOURS[0], label="y")
        axes.plot(*_break_at_jumps(x, slope), "--", color=COLOURS[1], label="dy/dx")
    axes.axhline(0, color="grey", linewidth=0.8, zorder=0)
    axes.axvline(0, color="grey", linewidth=0.8, zorder=0)
    axes.set(xlabel="x", xlim=(low, high), title=layer.name)
    axes.grid(alpha=0.3)
    axes.legend()
    return axes


def jacobian(layer: Layer, params: Params | None, x: Arrays, *, axes: Axes | None = None) -> Axes:
    """Draw the Jacobian dy/dx of a layer at x, a row for each number of y.

    Row i is what the layer's `input_grad` returns if g is 1 at number i of y and 0 elsewhere. Blue
    is negative, red positive, and white 0: a number of y does not depend on a white number of x.
    Thin lines separate the examples of a batch.

    Args:
        layer: any layer.
        params: its parameters; None draws them from `lf.Key(0)`.
        x: its input, a small one: each number of y takes a backward pass.

    Returns:
        The axes. The image's array is the Jacobian, with y and x flattened.

    Raises:
        ValueError: if y has more than 2,000 numbers, or x has no gradient.
        LayerError: if layer is not a `Layer`; and as the layer does.

    Example:
        >>> axes = jacobian(lf.relu(), (), torch.tensor([-1.0, 2.0]))
        >>> axes.images[0].get_array().tolist()
        [[0.0, 0.0], [0.0, 1.0]]
    """
    check_argument("jacobian", "layer", Layer, layer)
    y, rows = jacobian_matrix(layer, draw_params(layer, x, params), x)
    matrix = rows.detach().double().cpu().numpy()
    axes = new_axes() if axes is None else axes
    limit = float(np.abs(matrix[np.isfinite(matrix)]).max(initial=0.0)) or 1.0
    image = signed_image(axes, matrix, limit, aspect="auto")
    axes.set_facecolor("lightgrey")  # of what is not finite
    examples = _examples((x, y))
    for i in range(1, examples if examples <= _MOST_EXAMPLES else 1):
        axes.axhline(i * len(matrix) / examples - 0.5, color="grey", linewidth=0.8)
        axes.axvline(i * matrix.shape[1] / examples - 0.5, color="grey", linewidth=0.8)
    axes.set(xlabel=f"x, {_shapes(x)}", ylabel=f"y, {_shapes(y)}")
    axes.set_title(fill(layer.name, 50))
    axes.figure.colorbar(image, ax=axes, label="dy/dx")
    return axes


def _examples(arrays: Arrays) -> int:
    """Count the examples of a batch: the first axis, if all tensors have the same; else 1."""
    firsts = {leaf.shape[0] if leaf.ndim > 1 else 1 for leaf in tree.leaves(arrays)}
    return firsts.pop() if len(firsts) == 1 else 1


def _shapes(arrays: Arrays) -> str:
    return ", ".join(str(tuple(leaf.shape)) for leaf in tree.leaves(arrays))


def _break_at_jumps(
    x: Float[Tensor, " n"], values: Float[Tensor, " n"]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:  # Any: shape and dtype, as x has them
    """Insert a nan where a function jumps, so that no line is drawn there."""
    before = jumps(values)
    middles = [(x[i - 1].item() + x[i].item()) / 2 for i in before]
    return np.insert(x.numpy(), before, middles), np.insert(values.numpy(), before, np.nan)
