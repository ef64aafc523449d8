"""What is known of a forward pass that is to be recognised: its arrays and its constants.

Constants are labels, masks and the data of a classifier. They are among the arguments of forward,
in its cache, or in the scope of the function that calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import permutations
from typing import Any, TypeAlias

import attrs
import numpy as np
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, tree
from lincoln_fn.testing.sample import Sample

# From the arrays, in their order, one output or several.
Function: TypeAlias = Callable[[list[Tensor]], "Tensor | tuple[Tensor, ...]"]
Candidates: TypeAlias = Iterator[Function]
# From the floating arrays, an output of the structure of y.
Reference: TypeAlias = Callable[[Sequence[Tensor]], Arrays]
# How well a reference agrees with forward, in parts of the largest number.
AGREEMENT = 1e-9


@attrs.frozen(eq=False)
class Known:
    """Arrays, and what forward made of them."""

    arrays: list[Tensor]
    y: list[Tensor]
    # Labels, indices, masks, and other tensors that forward takes as given.
    constants: list[Tensor] = attrs.field(factory=list)
    # The right gradients, from differences; for what a loss does not show otherwise.
    gradients: Callable[[], list[Tensor]] = list

    @property
    def integers(self) -> list[Tensor]:
        """The constants that may be labels or indices."""
        return [c for c in self.constants if not c.is_floating_point() and c.dtype != torch.bool]


def choose(known: Known, *ndims: int | None) -> Iterator[tuple[int, ...]]:
    """Choose arrays of some numbers of axes, all arrays that there are; None is any number."""
    if len(known.arrays) != len(ndims):
        return
    for places in permutations(range(len(known.arrays))):
        found = [known.arrays[i].ndim for i in places]
        if all(want in (None, have) for want, have in zip(ndims, found, strict=True)):
            yield places


def apply(function: Callable[..., Any], *places: int | None, **options: object) -> Function:
    """Make a candidate of a function and the places of its arrays; None is an argument left out."""

    def run(arrays: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        made: Tensor | tuple[Tensor, ...] = function(
            *(None if i is None else arrays[i] for i in places), **options
        )
        return made

    return run


def agree(made: Tensor, y: Tensor) -> bool:
    """Return whether two outputs are the same numbers, up to the rounding of float64."""
    if made.shape != y.shape or made.dtype != y.dtype:
        return False
    if not y.numel():
        return True
    return bool((made - y).abs().max() <= AGREEMENT * y.abs().max() + 1e-300)


DEEPEST = 6
MOST = 40


def constants_of(at: Sample) -> list[Tensor]:
    """List the tensors that forward takes as given."""
    integers = [leaf for leaf in tree.leaves((at.params, at.x)) if not leaf.is_floating_point()]
    found = [*integers, *_arrays_in((at.layer.forward, at.cache), 0)]
    once: list[Tensor] = []
    for array in found:
        if not any(array.shape == other.shape and torch.equal(array, other) for other in once):
            once.append(array)
    return once[:MOST]


# Any: whatever a function or a cache holds.
def _arrays_in(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value.detach()
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "fiub":
            yield torch.from_numpy(np.array(value))
    elif depth < DEEPEST:
        for part in _parts_of(value):
            yield from _arrays_in(part, depth + 1)


def _parts_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if attrs.has(type(value)):
        return [getattr(value, field.name, None) for field in attrs.fields(type(value))]
    cells = getattr(value, "__closure__", None) or ()
    defaults = getattr(value, "__defaults__", None) or ()
    return [*(_content(cell) for cell in cells), *defaults]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty as yet
        return None
