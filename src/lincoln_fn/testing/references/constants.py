"""The tensors that a forward pass takes as given: labels, masks, the data of a classifier.

They are among its arguments, in its cache, or in the scope of the function that calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.testing.sample import Sample

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
