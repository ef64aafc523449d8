"""Params that are filled with tensors by other names, and what differs from these names.

A slot serves both directions. torch applies its matrices from the left, and a dense layer here from
the right, so some are transposed. Several tensors that torch has in one are joined along axis 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from lincoln_fn.core import Key, Params, first_of, format_briefly, named_leaves, tree


class Slot(NamedTuple):
    """A torch name, the paths of the leaves that its tensor is made of, and its layout."""

    name: str
    fields: tuple[str, ...]
    transposed: bool = False
    # The axis of torch's tensor along which those of several leaves are joined.
    dim: int = 0
    # How many axes of length 1 torch's tensor has in front.
    leading: int = 0
    # Several leaves are joined in so many groups: a part of each, and then the next parts.
    groups: int = 1

    def joined(self, leaves: Iterable[Tensor]) -> Tensor:
        """Join our tensors, one for each of the fields, to torch's, in new memory."""
        parts = [leaf.detach().mT if self.transposed else leaf.detach() for leaf in leaves]
        if len(parts) > 1:
            grouped = [torch.unflatten(part, self.dim, (self.groups, -1)) for part in parts]
            whole = torch.cat(grouped, self.dim + 1).flatten(self.dim, self.dim + 1)
        else:
            whole = parts[0].clone(memory_format=torch.contiguous_format)
        return whole.reshape((1,) * self.leading + whole.shape)

    def divided(self, tensor: Tensor, leaves: Iterable[Tensor]) -> list[Tensor]:
        """Divide torch's tensor into ours, in its memory; `leaves` have our shapes."""
        parts = [tensor.detach().reshape(tensor.shape[self.leading :])]
        if len(self.fields) > 1:
            sizes = [(leaf.mT if self.transposed else leaf).shape[self.dim] for leaf in leaves]
            grouped = torch.unflatten(parts[0], self.dim, (self.groups, -1))
            own = torch.split(grouped, [size // self.groups for size in sizes], self.dim + 1)
            parts = [part.flatten(self.dim, self.dim + 1) for part in own]
        return [part.mT if self.transposed else part for part in parts]

    def below(self, name: str, path: str) -> Slot:
        """Return the same slot within a larger module and a larger tree, by their prefixes."""
        fields = tuple(path + field for field in self.fields)
        return self._replace(name=name + self.name, fields=fields)


def by_path(params: Params) -> dict[str, Tensor]:
    """Return the tensors of params by their paths."""
    return dict(named_leaves(params, states=True))


def present(slots: Iterable[Slot], params: Params) -> list[Slot]:
    """List the slots whose leaves are in params: a layer without a bias has None there."""
    paths = set(tree.paths(params, states=True))
    return [slot for slot in slots if paths.issuperset(slot.fields)]


def expected(slots: Iterable[Slot], leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make tensors on `meta` by name, of the shapes and dtypes that the slots' tensors have."""
    on_meta = {path: leaf.to("meta") for path, leaf in leaves.items()}
    return {slot.name: slot.joined(on_meta[path] for path in slot.fields) for slot in slots}


def differences(wanted: Mapping[str, Tensor], given: Mapping[str, object]) -> list[str]:
    """List the first names that are missing, that are unexpected, and whose shapes are wrong."""
    problems = first_of(f"{name}: missing" for name in wanted if name not in given)
    problems += first_of(f"{name}: unexpected" for name in given if name not in wanted)
    return problems + first_of(
        f"{name}: expected shape {tuple(like.shape)}, got {format_briefly(given[name])}"
        for name, like in wanted.items()
        if name in given
        and not (isinstance(tensor := given[name], Tensor) and tensor.shape == like.shape)
    )


def fill(
    like: Params,
    slots: Iterable[Slot],
    read: Callable[[str], Tensor],
    key: Key,
    dtype: torch.dtype | None = None,
) -> Params:
    """Make params like others, with copies of the tensors that `read` returns for the slots' names.

    Each is copied before the next one is read. Leaves on `meta` without a slot are keys.
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
