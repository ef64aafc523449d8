"""Does a layer work position by position? It is tried on noise, with the params given.

With x of n positions and y = f(x), the layer works by position if, for every t and s != t,

    y_t is f of x_t alone              which is tried of the first, the middle and the last position
    y_t does not depend on the place   which is tried by another order of the positions
    y_t does not depend on x_s         which is tried of each pair, in 2 log n runs

For each binary digit, large noise takes the place of x_s wherever s has the digit 0, then wherever
it has 1, and the other y_t have to stay. Two positions differ in a digit, so each pair is tried.

n is the most positions of the text. For a layer of the library that declares its kind it is small:
such a layer mixes neighbours, or all positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import attrs
import optree
import torch
from torch import Tensor

from lincoln_fn.core import EVERYTHING, Arrays, Key, Layer, Params, is_ours, keys, kind_of, tree
from lincoln_fn.walk.internal import ERRORS

# These act on the last axis alone. They are large, so they are not tried.
_ON_LAST_AXIS: Final = ("dense", "scores")
_FEW: Final = 16
# What takes the place of other positions: even a weak dependence on it shows.
_LARGE: Final = 1000.0
# (i, shape, dtype, device) -> noise for the tensor i of an input
Noise: TypeAlias = Callable[[int, torch.Size, torch.dtype, torch.device], Tensor]
LeafAxes: TypeAlias = list[tuple[int, ...]]


def is_by_position(
    layer: Layer, params: Params, x: Arrays, axes: LeafAxes, length: int, noise: Noise
) -> bool:
    """Return whether `predict` of several positions is that of each, up to a length of the text.

    Args:
        layer: a single layer.
        x: an example input; of a tensor with an axis of positions only the other axes matter.
        axes: of each tensor of x, its axes of positions.
        length: the most positions.
        noise: draws the inputs.
    """
    if any(len(each) > 1 for each in axes):
        return False
    kind = kind_of(layer)
    if kind == "embedding" or (kind in _ON_LAST_AXIS and axes[0] != (-1,)):
        return True
    is_known = kind is not None and is_ours(layer.forward) and is_ours(layer.predict)
    count = max(min(length, _FEW) if is_known else length, 2)
    try:
        return _holds(_Text(layer, params, x, [*axes], count, noise))
    except ERRORS:  # it does not take any number of positions
        return False


@attrs.frozen(eq=False)
class _Text:
    """A layer, and inputs of some positions."""

    layer: Layer
    params: Params
    x: Arrays
    axes: LeafAxes
    count: int
    noise: Noise

    def drawn(self, first: int) -> list[Tensor]:
        """Draw the tensors of an input; those without positions are the given ones."""
        leaves = optree.tree_leaves(self.x, namespace=EVERYTHING)
        return [
            self._varied(first + i, leaf, axis[0]) if axis else leaf
            for i, (leaf, axis) in enumerate(zip(leaves, self.axes, strict=True))
        ]

    def _varied(self, i: int, leaf: Tensor, axis: int) -> Tensor:
        shape = [*leaf.shape]
        shape[axis] = self.count
        if leaf.is_floating_point():
            return self.noise(i, torch.Size(shape), leaf.dtype, leaf.device)
        # 0 and 1, which every vocabulary has.
        along = [1] * leaf.ndim
        along[axis] = -1
        bits = keys.bernoulli(Key(i).near(leaf), (self.count,), 0.5)
        return bits.view(along).expand(shape).to(leaf.dtype)

    def predicted(self, leaves: list[Tensor], positions: Tensor) -> list[Tensor]:
        """Compute the outputs of some positions of an input."""
        chosen = [
            leaf.index_select(axis[0], positions) if axis else leaf
            for leaf, axis in zip(leaves, self.axes, strict=True)
        ]
        structure = optree.tree_structure(self.x, namespace=EVERYTHING)
        y = self.layer.predict(self.params, structure.unflatten(chosen))
        return tree.leaves(y, states=True)

    def replaced(self, leaves: list[Tensor], others: list[Tensor], where: Tensor) -> list[Tensor]:
        """Put large inputs into the place of some positions."""
        made = []
        for leaf, other, axis in zip(leaves, others, self.axes, strict=True):
            if axis:
                is_floating = leaf.is_floating_point()
                large = other * _LARGE if is_floating else (leaf == 0).to(leaf.dtype)
                leaf = torch.where(where.view(-1, *(1,) * (-1 - axis[0])), large, leaf)
            made.append(leaf)
        return made


def _holds(text: _Text) -> bool:
    x, other, n = text.drawn(0), text.drawn(len(text.axes)), text.count
    device = next(leaf.device for leaf, axis in zip(x, text.axes, strict=True) if axis)
    every = torch.arange(n, device=device)
    whole = text.predicted(x, every)
    of_first = text.predicted(x, every[:1])
    axes = axes_of(of_first, whole, n - 1)
    if axes is None or any(len(each) > 1 for each in axes):
        return False

    def agrees(y: list[Tensor], there: Tensor, here: Tensor) -> bool:
        """Compare outputs at some positions with those of the whole at others."""
        pairs = zip(y, whole, axes, strict=True)
        return all(
            _is_near(a.index_select(axis[0], there), b.index_select(axis[0], here)) if axis
            else _is_near(a, b)
            for a, b, axis in pairs
        )  # fmt: skip

    first = every[:1]
    if not agrees(of_first, first, first):
        return False
    for t in {n // 2, n - 1}:
        if not agrees(text.predicted(x, every[t : t + 1]), first, every[t : t + 1]):
            return False
    order = keys.permutation(Key(0).near(every), n)
    if not agrees(text.predicted(x, order), every, order):
        return False
    for digit in range((n - 1).bit_length()):
        for value in (False, True):
            where = (every >> digit & 1).bool() ^ value
            kept = every[~where]
            if not agrees(text.predicted(text.replaced(x, other, where), every), kept, kept):
                return False
    return True


def axes_of(short: list[Tensor], long: list[Tensor], more: int) -> LeafAxes | None:
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
