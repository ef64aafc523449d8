"""Two trial runs, of one position and of two, that find how each layer of a network decodes.

An axis that has one entry more in the second run is that of the positions. A layer whose inputs all
have one decodes by its row. Any other has to work position by position. Layers that mix positions
are refused in one error, before any token is computed.

Whether a layer works position by position is tried on noise, with the params given. With x of n
positions and y = f(x), it does if, for every t and s != t,

    y_t is f of x_t alone              which is tried of the first position
    y_t does not depend on the place   which is tried with each position at the next one's place
    y_t does not depend on x_s         which is tried of each pair, in 2 log n runs

For each binary digit, large noise takes the place of x_s wherever s has the digit 0, then wherever
it has 1, and the other y_t have to stay. Two positions differ in a digit, so each pair is tried.

n is the most positions of the text. For a layer of the library that declares its kind it is small:
such a layer mixes neighbours, or all positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Final, TypeAlias

import attrs
import optree
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, Layer, LayerError, Params, is_ours, keys, tree, unexpected
from lincoln_fn.decoding.rows import States, row_of
from lincoln_fn.walk.internal import ERRORS
from lincoln_fn.walk.walks import there

# These act on the last axis alone. They are large, so they are not tried.
_ON_LAST_AXIS: Final = ("dense", "scores")
_FEW: Final = 16
# What takes the place of other positions: even a weak dependence on it shows.
_LARGE: Final = 1000.0
# (i, shape, dtype, device) -> noise for the tensor i of an input
Noise: TypeAlias = Callable[[int, torch.Size, torch.dtype, torch.device], Tensor]
LeafAxes: TypeAlias = list[tuple[int, ...]]
Tensors: TypeAlias = list[Tensor]
Along: TypeAlias = list[int | None]  # of each tensor of x, its axis of positions


def is_by_position(
    layer: Layer, params: Params, x: Arrays, axes: LeafAxes, length: int, noise: Noise
) -> bool:
    """Return whether a single layer's `predict` of up to `length` positions is that of each.

    `axes` are those of positions in each tensor of x, of which only the other axes matter.
    """
    if any(len(each) > 1 for each in axes):
        return False
    kind = core.kind_of(layer)
    if kind == "embedding" or (kind in _ON_LAST_AXIS and axes[0] != (-1,)):
        return True
    is_known = kind is not None and is_ours(layer.forward) and is_ours(layer.predict)
    count = max(min(length, _FEW) if is_known else length, 2)
    leaves, form = optree.tree_flatten(x, namespace=core.EVERYTHING)
    along = [axis[0] if axis else None for axis in axes]
    drawn, other = (_drawn(i, leaves, along, count, noise) for i in (0, len(leaves)))

    def predict(tensors: Tensors, positions: Tensor) -> Tensors:
        """Compute the outputs of some positions of an input."""
        pairs = zip(tensors, along, strict=True)
        chosen = [t if axis is None else t.index_select(axis, positions) for t, axis in pairs]
        return tree.leaves(layer.predict(params, form.unflatten(chosen)), states=True)

    try:
        return _holds(predict, drawn, other, along, count)
    except ERRORS:  # it does not take any number of positions
        return False


def _drawn(first: int, leaves: Tensors, along: Along, count: int, noise: Noise) -> Tensors:
    """Draw the tensors of an input; those without positions are the given ones."""
    drawn = []
    for i, (leaf, axis) in enumerate(zip(leaves, along, strict=True), first):
        if axis is not None:
            shape = [*leaf.shape]
            shape[axis] = count
            # 0 and 1, which every vocabulary has.
            bits = keys.bernoulli(Key(i).near(leaf), (count,), 0.5)
            if leaf.is_floating_point():
                leaf = noise(i, torch.Size(shape), leaf.dtype, leaf.device)
            else:
                leaf = _facing(bits, axis).expand(shape).to(leaf.dtype)
        drawn.append(leaf)
    return drawn


def _facing(row: Tensor, axis: int) -> Tensor:
    """Give a row of numbers the axis of positions, counted from the end."""
    return row.view(-1, *(1,) * (-1 - axis))


def _replaced(leaf: Tensor, other: Tensor, axis: int | None, where: Tensor) -> Tensor:
    if axis is None:
        return leaf
    large = other * _LARGE if leaf.is_floating_point() else (leaf == 0).to(leaf.dtype)
    return torch.where(_facing(where, axis), large, leaf)


def _holds(
    predict: Callable[[Tensors, Tensor], Tensors], x: Tensors, other: Tensors, along: Along, n: int
) -> bool:
    device = next(leaf.device for leaf, axis in zip(x, along, strict=True) if axis is not None)
    every = torch.arange(n, device=device)
    first, following = every[:1], every.roll(1)
    whole, of_first = predict(x, every), predict(x, first)
    axes = axes_of(of_first, whole, n - 1)
    if axes is None or any(len(each) > 1 for each in axes):
        return False

    def agrees(y: Tensors, there: Tensor, here: Tensor) -> bool:
        pairs = zip(y, whole, axes, strict=True)
        return all(
            _is_near(a.index_select(axis[0], there), b.index_select(axis[0], here)) if axis
            else _is_near(a, b)
            for a, b, axis in pairs
        )  # fmt: skip

    if not agrees(of_first, first, first) or not agrees(predict(x, following), every, following):
        return False
    for digit in range((n - 1).bit_length()):
        for value in (0, 1):
            where = (every >> digit & 1) != value
            changed = [_replaced(*each, where) for each in zip(x, other, along, strict=True)]
            if not agrees(predict(changed, every), every[~where], every[~where]):
                return False
    return True


def axes_of(short: Tensors, long: Tensors, more: int) -> LeafAxes | None:
    """Find the axes that have so many more entries, of each tensor; None if any axis has others."""
    found: LeafAxes = []
    if [t.ndim for t in short] != [t.ndim for t in long]:
        return None
    for one, two in zip(short, long, strict=True):
        added = [b - a for a, b in zip(one.shape, two.shape, strict=True)]
        if not {*added} <= {0, more}:
            return None
        found.append(tuple(i - len(added) for i, n in enumerate(added) if n))
    return found


def _is_near(one: Tensor, other: Tensor) -> bool:
    """Return whether two numbers are the same up to rounding, which is far below this bound."""
    if one.shape != other.shape:
        return False
    if torch.equal(one, other) or not one.is_floating_point():
        return torch.equal(one, other)
    largest = other.abs().max().item() if other.numel() else 0.0
    bound = torch.finfo(one.dtype).eps ** 0.5 * max(1.0, largest)
    return torch.allclose(one, other, rtol=0.0, atol=bound, equal_nan=True)


_MEND: Final = "; declare one by lf.declare(forward, decode=(init, step))"


@attrs.frozen
class Visited:
    """One use of one layer, in a trial run."""

    layer: Layer
    name: str
    params: Params
    x: Arrays
    y: Arrays


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
    (ones, y_one, error), (twos, y_two, later) = (_try(net, params, x) for x in (short, long))
    noise = cache(_noise)  # of a deep network, many layers have inputs of one shape
    states: States = {}
    refused: list[str] = []
    for one, two in zip(ones, twos, strict=False):
        if refused and _axes(one.x, two.x) is None:
            continue  # that follows from the refused ones
        try:
            states |= _state(one, two, max_length, noise)
        except LayerError as reason:
            refused.append(f"{one.name} {one.layer.name} {reason.problem}".strip())
    if refused:
        raise unexpected("decode", "layers that decode", "; ".join(refused))
    error = error or later
    if error is not None:
        raise LayerError("decode", f"cannot run on a few positions: {error}") from error
    if len(ones) != len(twos):
        expected = "a composition that runs its parts as often for two positions as for one"
        raise unexpected("decode", expected, "one that runs over the positions", "use lf.scan")
    return states, _axis_of_outputs(y_one, y_two)


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


def _try(net: Layer, params: Params, x: Arrays) -> tuple[list[Visited], Arrays, Exception | None]:
    """Return the uses of all layers in their order, and the network's output or error."""
    visited: list[Visited] = []

    def at(layer: Layer, name: str, params: Params, x: Arrays) -> Arrays:
        y = layer.predict(params, x)
        visited.append(Visited(layer, name, params, x, y))
        return y

    try:
        return visited, run(net, params, x, at), None
    except ERRORS as error:
        return visited, None, error


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
    return axes_of(tree.leaves(short, states=True), tree.leaves(long, states=True), 1)


def _noise(i: int, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    near = torch.empty((), device=device)
    return keys.normal(Key(i).near(near), tuple(shape), dtype=dtype)
