"""Two trial runs, of one position and of two, that find how each layer of a network decodes.

An axis that has one entry more in the second run is that of the positions. A layer whose inputs all
have one decodes by its row. Any other has to work position by position (`by_position.py`). Layers
that mix positions are refused in one error, before any token is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Final

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, Layer, LayerError, Params, keys, tree, unexpected
from lincoln_fn.decoding.by_position import LeafAxes, Noise, axes_of, is_by_position
from lincoln_fn.decoding.rows import States, row_of
from lincoln_fn.walk.internal import ERRORS
from lincoln_fn.walk.walks import there

_MEND: Final = "; declare one by lf.declare(forward, decode=(init, step))"


@attrs.frozen
class Visited:
    """One use of one layer, in a trial run."""

    layer: Layer
    name: str
    params: Params
    x: Arrays
    y: Arrays


@attrs.frozen
class Trial:
    """The uses of all layers in their order, and the network's output or error."""

    visited: list[Visited]
    y: Arrays
    error: Exception | None


def run(
    net: Layer,
    params: Params,
    x: Arrays,
    at: Callable[[Layer, str, Params, Arrays], Arrays],
) -> Arrays:
    """Compute y of a network, where `at` computes that of each single layer."""
    uses: Counter[str] = Counter()

    def visit(layer: Layer, path: str, params: Params, x: Arrays) -> tuple[Arrays, None]:
        uses[path] += 1
        name = path if uses[path] == 1 else f"{path} ({uses[path]})"
        return at(layer, name, params, x), None

    return there(visit, net, params, x, advance=lambda layer, params, record: params)[0]


def find_states(
    net: Layer, params: Params, short: Arrays, long: Arrays, max_length: int
) -> tuple[States, int]:
    """Find the first state of each layer that has a row, and the axis of y's positions."""
    runs = [_try(net, params, x) for x in (short, long)]
    noise = cache(_noise)  # of a deep network, many layers have inputs of one shape
    states: States = {}
    refused: list[str] = []
    for one, two in zip(runs[0].visited, runs[1].visited, strict=False):
        if refused and _axes(one.x, two.x) is None:
            continue  # that follows from the refused ones
        try:
            states |= _state(one, two, max_length, noise)
        except LayerError as reason:
            refused.append(f"{one.name} {one.layer.name} {reason.problem}".strip())
    if refused:
        raise unexpected("decode", "layers that decode", "; ".join(refused))
    for each in runs:
        if each.error is not None:
            problem = f"cannot run on a few positions: {each.error}"
            raise LayerError("decode", problem) from each.error
    if len(runs[0].visited) != len(runs[1].visited):
        expected = "a composition that runs its parts as often for two positions as for one"
        raise unexpected("decode", expected, "one that runs over the positions", "use lf.scan")
    return states, _axis_of_outputs(runs[0].y, runs[1].y)


def _axis_of_outputs(short: Arrays, long: Arrays) -> int:
    """Return the axis of the positions in the outputs; check that there is one for each."""
    axes = _axes(short, long)
    if not (axes and axes[0]):
        raise unexpected("decode", "an output for each position", core.format_briefly(long))
    axis = axes[0][-1]
    count = tree.leaves(short, states=True)[0].shape[axis]
    if count != 1:
        mend = f"pad {count - 1} fewer before the text" if count else ""
        raise unexpected("decode", "one output for the first position", count, mend)
    return axis


def _try(net: Layer, params: Params, x: Arrays) -> Trial:
    """Run a network up to its end, or an error."""
    visited: list[Visited] = []

    def at(layer: Layer, name: str, params: Params, x: Arrays) -> Arrays:
        y = layer.predict(params, x)
        visited.append(Visited(layer, name, params, x, y))
        return y

    try:
        return Trial(visited, run(net, params, x, at), None)
    except ERRORS as error:
        return Trial(visited, None, error)


def _state(one: Visited, two: Visited, max_length: int, noise: Noise) -> States:
    """Make the first state of a layer that decodes by its row; check that any other needs none."""
    axes = _axes(one.x, two.x)
    if axes is None:
        raise LayerError("", "gets positions that are joined with something else")
    if not any(axes):  # it sees only context
        return {}
    row = row_of(one.layer)
    if row is not None and all(axes):
        axis = axes[0][0]
        early = tree.leaves(one.x, states=True)[0].shape[axis] - 1
        if early and not row.pads:
            raise LayerError("", f"gets {early} positions before the text; pad {early} fewer")
        return {one.name: row.init(one.params, one.x, axis=axis, max_length=max_length)}
    if not is_by_position(two.layer, two.params, two.x, axes, max_length, noise):
        raise LayerError("", "mixes positions, and has no row for that" + _MEND)
    return {}


def _axes(short: Arrays, long: Arrays) -> LeafAxes | None:
    """Find the axes that have one entry more, of each tensor; None if any axis has others."""
    return axes_of(tree.leaves(short, states=True), tree.leaves(long, states=True), 1)


def _noise(i: int, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    near = torch.empty((), device=device)
    return keys.normal(Key(i).near(near), tuple(shape), dtype=dtype)
