"""Kinds of arguments: what a program depends on beside their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import is_plain
from lincoln_fn.recording.guards import has_mode
from lincoln_fn.runtime import precision

# Which arguments share a place, and the settings of the process.
Conditions: TypeAlias = tuple[object, ...]
_TYPES: Final = (Tensor, torch.nn.Parameter)


def address(tensor: Tensor) -> int:
    """Return where a tensor's memory lies."""
    return tensor.untyped_storage().data_ptr()


def conditions(tensors: Sequence[Tensor], place: Callable[[Tensor], int] | None) -> Conditions:
    """Return what a program depends on beside the structure and the layouts of its arguments.

    Args:
        tensors: the arguments'.
        place: of a tensor, what it shares with another that the program cannot tell from it: `id`,
            or the `address` of its memory. None if it tells all from each other.
    """
    places = [] if place is None else [*map(place, tensors)]
    return (
        None if len({*places}) == len(places) else tuple(map(places.index, places)),
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
