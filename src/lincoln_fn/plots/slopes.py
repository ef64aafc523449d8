"""The derivative of a layer, from its own backward pass.

    dx = g dy/dx

If y[i] depends on x[i] alone, dy/dx is a slope for each element, and g = 1 gives all slopes at
once. In general dy/dx is the Jacobian, a matrix, and the unit vector g = e_i gives its row i.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, Key, Layer, Params, tree

# Each row takes a backward pass.
_MOST_ROWS: Final = 2000


def slopes(
    layer: Layer, params: Params, x: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y and dy/dx of a layer that works element by element."""
    y, cache = layer.forward(params, x)
    problem = f"layer: expected a layer that works element by element, got {layer}"
    mend = "lf.plots.jacobian draws any layer"
    if not isinstance(y, Tensor) or y.shape != x.shape:
        raise ValueError(f"{problem}; {mend}")
    slope: Tensor = layer.input_grad(params, cache, torch.ones_like(y))
    g = torch.linspace(-1, 2, y.numel(), dtype=y.dtype, device=y.device).view_as(y).sin()
    if not torch.allclose(layer.input_grad(params, cache, g), g * slope, equal_nan=True):
        raise ValueError(f"{problem}; {mend}")
    return y, slope


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
    """Distribute numbers over tensors like others."""
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


def draw_params(layer: Layer, x: Arrays, params: Params | None) -> Params:
    """Return params, or those that key 0 gives if they are None."""
    return layer.init(Key(0), x) if params is None else params
