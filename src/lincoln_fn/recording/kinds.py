"""Kinds of arguments: what a program depends on beside their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.fastpath.bfloat16 import precision
from lincoln_fn.fastpath.plain import is_plain
from lincoln_fn.recording.guards import has_mode

# Which arguments are one and the same tensor, and the settings of the process.
Conditions: TypeAlias = tuple[object, ...]
_TYPES: Final = (Tensor, torch.nn.Parameter)


def conditions(tensors: Sequence[Tensor], *, by_memory: bool = False) -> Conditions:
    """Return what a program depends on beside the structure and the layouts of its arguments.

    Args:
        tensors: the arguments'.
        by_memory: whether it matters which of them share memory, and not only which are the same.
    """
    ids = [t.untyped_storage().data_ptr() for t in tensors] if by_memory else [*map(id, tensors)]
    return (
        None if len({*ids}) == len(ids) else tuple(map(ids.index, ids)),
        torch.get_num_threads(),
        precision(),
        torch.get_default_dtype(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        _is_watched(),
    )


def can_be_recorded(tensors: Sequence[Tensor]) -> bool:
    """Return whether these are tensors with numbers, and neither torch nor a user looks on.

    Autograd, torch.func, tracers and modes see what Python calls, and not what was recorded.
    """
    return (
        not _is_watched()
        and all(type(t) in _TYPES and t.layout is torch.strided and not t.is_meta for t in tensors)
        and is_plain(*tensors)
    )


def _is_watched() -> bool:
    """Return whether a mode sees, or autocast changes, what is computed."""
    return has_mode() or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
