"""Params that are filled with tensors by other names, and what differs from these names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count

import torch
from torch import Tensor

from lincoln_fn.core import Key, Params, first_of, format_briefly, tree
from lincoln_fn.interop.names import Slot


def by_path(params: Params) -> dict[str, Tensor]:
    """Return the tensors of params by their paths."""
    paths, leaves = tree.paths(params, states=True), tree.leaves(params, states=True)
    return dict(zip(paths, leaves, strict=True))


def present(slots: Iterable[Slot], params: Params) -> list[Slot]:
    """List the slots whose leaves are in params: a layer without a bias has None there."""
    paths = set(tree.paths(params, states=True))
    return [slot for slot in slots if paths.issuperset(slot.fields)]


def expected_tensor(slot: Slot, leaves: Mapping[str, Tensor]) -> Tensor:
    """Make a tensor on `meta` of the shape and dtype that a slot's tensor has."""
    return slot.joined(leaves[path].to("meta") for path in slot.fields)


def differences(
    slots: Iterable[Slot], leaves: Mapping[str, Tensor], named: Mapping[str, object]
) -> list[str]:
    """List the first names that are missing, that are unexpected, and whose shapes are wrong."""
    expected = {slot.name: slot for slot in slots}
    problems = first_of(f"{name}: missing" for name in expected if name not in named)
    problems += first_of(f"{name}: unexpected" for name in named if name not in expected)
    shapes = []
    for name, slot in expected.items():
        shape = tuple(expected_tensor(slot, leaves).shape)
        given = named.get(name)
        if name in named and (not isinstance(given, Tensor) or tuple(given.shape) != shape):
            shapes.append(f"{name}: expected shape {shape}, got {format_briefly(given)}")
    return problems + first_of(shapes)


def fill(
    like: Params,
    slots: Iterable[Slot],
    read: Callable[[str], Tensor],
    key: Key,
    dtype: torch.dtype | None = None,
) -> Params:
    """Make params like others, with copies of the tensors that `read` returns for the slots' names.

    Args:
        like: params that give structure, shapes and memory layouts; they may be on `meta`.
        slots: whose names and shapes have been checked.
        read: name -> tensor. Each is read once, and copied before the next one is read.
        key: the keys of leaves on `meta` that have no slot, such as dropout's, are made from it.
        dtype: of the copies of floating tensors; None for the tensors' own.
    """
    leaves = by_path(like)
    found: dict[str, Tensor] = {}
    for slot in slots:
        own = [leaves[path] for path in slot.fields]
        parts = slot.divided(read(slot.name), own)
        for path, leaf, part in zip(slot.fields, own, parts, strict=True):
            kept = dtype if dtype is not None and part.is_floating_point() else part.dtype
            # In the leaf's memory layout.
            found[path] = torch.empty_like(leaf, dtype=kept, device=part.device).copy_(part)
    first = next(iter(found.values()), None)
    key = key if first is None else key.near(first)
    numbers, paths = count(), iter(leaves)

    def filled(leaf: Tensor) -> Tensor:
        own = found.get(next(paths))
        if own is not None:
            return own
        # Only keys are left on `meta`: any other missing tensor has been refused.
        return key.fold_in(next(numbers)).bits if leaf.is_meta else leaf

    return tree.map(filled, like, states=True)
