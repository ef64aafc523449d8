"""The mask of a sequence, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.layer import Arrays
from lincoln_fn.errors.descriptions import format_briefly
from lincoln_fn.errors.errors import LayerError


def steps_first(mask: object, sequence: Tensor, dim: int) -> Bool[Tensor, "length ..."] | None:
    """Check a mask that has the first axes of a sequence, and put the axis of the steps first."""
    if mask is None:
        return None
    dim %= sequence.ndim
    if (
        isinstance(mask, Tensor)
        and mask.dtype is torch.bool
        and mask.ndim > dim
        and mask.shape == sequence.shape[: mask.ndim]
    ):
        return mask.movedim(dim, 0)
    shape = tuple(sequence.shape[: max(dim + 1, 2)])
    raise LayerError("scan", f"expected a bool mask of shape {shape}, got {format_briefly(mask)}")


def steps_of(mask: Bool[Tensor, "length ..."] | None, count: int) -> Sequence[Tensor | None]:
    """Return the mask of each step, None where there is no mask."""
    return [None] * count if mask is None else mask.unbind(0)


def where(mask: Bool[Tensor, ...] | None, new: Arrays, old: Arrays) -> Arrays:
    """Return new where the mask of a step is True, and elsewhere old, or 0 if that is None."""
    if mask is None:
        return new

    def choose(leaf: Tensor, other: Tensor | int = 0) -> Tensor:
        if leaf.shape[: mask.ndim] != mask.shape:
            shapes = f"the axes of the mask, {tuple(mask.shape)}, got {tuple(leaf.shape)}"
            raise LayerError("scan", f"expected outputs and states that begin with {shapes}")
        return torch.where(mask.view(*mask.shape, *[1] * (leaf.ndim - mask.ndim)), leaf, other)

    return tree.map(choose, new) if old is None else tree.map(choose, new, old)
