"""A layer's function and its derivative, which the layer's own backward pass computes.

    dx = g dy/dx

If y[i] depends on x[i] alone, dy/dx is a slope for each element, and g = 1 gives all slopes at
once. In general dy/dx is the Jacobian, a matrix, and the unit vector g = e_i gives its row i.
"""

from __future__ import annotations

from textwrap import fill
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, Key, Layer, LayerError, Params, check_argument, tree, unexpected
from lincoln_fn.plots._figure import COLOURS, Axes, Numbers, new_axes, signed_image

_POINTS: Final = 1001
# With more examples, the lines between them would cover the picture.
_MOST_EXAMPLES: Final = 40
# Each row of a Jacobian takes a backward pass.
_MOST_ROWS: Final = 2000


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
    function jumps. A layer with a random key is drawn as points: each has its own random number.

    Args:
        layer: works element by element, such as `lf.gelu()` or `lf.dropout(0.5)`.
        params: its parameters; None draws them from `lf.Key(0)`.
        low: the smallest x, and `high` the largest.

    Returns:
        The axes. The first line is y, the second dy/dx; a break is a `nan`.

    Raises:
        LayerError: if an element of y depends on several elements of x.

    Example:
        >>> axes = layer(lf.relu(), low=-2, high=2)
        >>> [line.get_ydata()[[0, -1]].tolist() for line in axes.lines[:2]]
        [[0.0, 2.0], [0.0, 1.0]]
    """
    check_argument("layer", "layer", Layer, layer)
    dtypes = {leaf.dtype for leaf in tree.leaves(params) if leaf.is_floating_point()}
    x = torch.linspace(low, high, _POINTS, dtype=dtypes.pop() if dtypes else torch.float64)
    try:
        params = layer.init(Key(0), x) if params is None else params
        y, slope = slopes(layer, params, x)
    except LayerError as error:
        expected = "a layer that works element by element"
        raise unexpected("layer", expected, layer, "lf.plots.jacobian draws any layer") from error
    axes = axes or new_axes(6.4, 4.0)
    as_points = is_random(params)
    curves = ("y", y, "-", COLOURS[0]), ("dy/dx", slope, "--", COLOURS[1])
    for label, values, look, colour in curves:
        points = (x, values, ".") if as_points else (*_break_at_jumps(x, values), look)
        axes.plot(*points, color=colour, markersize=3, label=label)
    for line in (axes.axhline, axes.axvline):
        line(0, color="grey", linewidth=0.8, zorder=0)
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
        params: its parameters; None draws them from `lf.Key(0)`.
        x: its input, a small one: each number of y takes a backward pass.

    Raises:
        ValueError: if y has more than 2,000 numbers, or x has no gradient.

    Example:
        >>> axes = jacobian(lf.relu(), (), torch.tensor([-1.0, 2.0]))
        >>> axes.images[0].get_array().tolist()
        [[0.0, 0.0], [0.0, 1.0]]
    """
    check_argument("jacobian", "layer", Layer, layer)
    params = layer.init(Key(0), x) if params is None else params
    y, rows = jacobian_matrix(layer, params, x)
    matrix = rows.detach().double().cpu().numpy()
    axes = axes or new_axes()
    limit = float(np.abs(matrix[np.isfinite(matrix)]).max(initial=0.0)) or 1.0
    image = signed_image(axes, matrix, limit, aspect="auto")
    axes.set_facecolor("lightgrey")  # of what is not finite
    examples = _examples((x, y))
    for i in range(1, examples if examples <= _MOST_EXAMPLES else 1):
        axes.axhline(i * len(matrix) / examples - 0.5, color="grey", linewidth=0.8)
        axes.axvline(i * matrix.shape[1] / examples - 0.5, color="grey", linewidth=0.8)
    axes.set(xlabel=f"x, {_shapes(x)}", ylabel=f"y, {_shapes(y)}", title=fill(layer.name, 50))
    axes.figure.colorbar(image, ax=axes, label="dy/dx")
    return axes


def _examples(arrays: Arrays) -> int:
    """Count the examples of a batch: the first axis, if all tensors have the same; else 1."""
    firsts = {leaf.shape[0] if leaf.ndim > 1 else 1 for leaf in tree.leaves(arrays)}
    return firsts.pop() if len(firsts) == 1 else 1


def _shapes(arrays: Arrays) -> str:
    return ", ".join(str(tuple(leaf.shape)) for leaf in tree.leaves(arrays))


def _break_at_jumps(x: Float[Tensor, " n"], values: Float[Tensor, " n"]) -> tuple[Numbers, Numbers]:
    """Insert a nan where a function jumps, so that no line is drawn there."""
    before = jumps(values)
    middles = [(x[i - 1].item() + x[i].item()) / 2 for i in before]
    return np.insert(x.numpy(), before, middles), np.insert(values.numpy(), before, np.nan)


def slopes(
    layer: Layer, params: Params, x: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y and dy/dx of a layer that works element by element."""
    y, cache = layer.forward(params, x)
    if isinstance(y, Tensor) and y.shape == x.shape:
        slope: Tensor = layer.input_grad(params, cache, torch.ones_like(y))
        g = torch.linspace(-1, 2, y.numel(), dtype=y.dtype, device=y.device).view_as(y).sin()
        if torch.allclose(layer.input_grad(params, cache, g), g * slope, equal_nan=True):
            return y, slope
    raise LayerError(layer.name, "an element of y depends on several elements of x")


def jacobian_matrix(
    layer: Layer, params: Params, x: Arrays
) -> tuple[Arrays, Float[Tensor, "n_y n_x"]]:
    """Compute y and dy/dx, one row for each number of y, by one backward pass a row."""
    y, cache = layer.forward(params, x)
    n = sum(leaf.numel() for leaf in tree.leaves(y))
    if n > _MOST_ROWS:
        wanted = f"expected y of at most {_MOST_ROWS} numbers, each a row"
        raise ValueError(f"jacobian: {wanted}, got {n}; take a smaller x")
    rows = []
    for unit in torch.eye(n):
        dx = tree.leaves(layer.input_grad(params, cache, _shape_like(unit, y)))
        if not dx:
            raise ValueError(f"jacobian: expected an x with a gradient, {layer} has none for it")
        rows.append(torch.cat([leaf.flatten() for leaf in dx]))
    return y, torch.stack(rows)


def _shape_like(numbers: Float[Tensor, " n"], like: Arrays) -> Arrays:
    parts = iter(torch.split(numbers, [leaf.numel() for leaf in tree.leaves(like)]))
    return tree.map(lambda leaf: next(parts).to(leaf).view_as(leaf), like)


def jumps(values: Float[Tensor, " n"]) -> list[int]:
    """List the places before which a function jumps, where a line through its values breaks."""
    # A jump is 5 times as large as most steps nearby, and a fiftieth of the whole range.
    steps = values.diff().abs()
    nearby = torch.nn.functional.pad(steps[None], (3, 3), "replicate")[0].unfold(0, 7, 1)
    is_jump = (steps > 5 * nearby.median(-1).values) & (steps > (values.max() - values.min()) / 50)
    found: list[int] = (torch.nonzero(is_jump).flatten() + 1).tolist()
    return found


def is_random(params: Params) -> bool:
    """Return whether params carry a state, as those of a random layer do: its key."""
    return len(tree.leaves(params, states=True)) > len(tree.leaves(params))
