"""What runs a function on flat lists of tensors, by the kind of its arguments.

A program depends on more than the numbers of its arguments: data to compare at each call. torch
tells some of it by its private parts alone: layouts compared in one call, and modes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, is_forward_mode, is_plain, is_record, is_transformed
from lincoln_fn.recording.structures import Structure, flatten, layouts
from lincoln_fn.runtime import precision

M = TypeVar("M", bound=Hashable)
# Which arguments share a place, and the settings of the process.
Conditions: TypeAlias = tuple[object, ...]
_TYPES: Final = (Tensor, torch.nn.Parameter)
# A function of as many tensors as it was made of.
Fits: TypeAlias = Callable[..., bool]
# Makes what runs for one kind: of the number of the first argument's tensors, whether some tensors
# share a place, and the arguments.
Make: TypeAlias = Callable[..., M]


class ByKind(Generic[M]):
    """What runs a function, found by the kind of the arguments; the first may be a state.

    It remembers the flat tensors of each state that was made, until the state is used or freed, and
    what followed what. These are memos: no result depends on them.
    """

    is_memo = True

    def __init__(
        self, make: Make[M], place: Callable[[Tensor], int] | None, most: int | None = None
    ) -> None:
        self.make, self.place, self.most = make, place, most  # `place` as `_conditions` says
        self.kinds: dict[Hashable, M] = {}
        self.made: WeakKeyDictionary[Arrays, tuple[list[Tensor], M]] = WeakKeyDictionary()
        self.after = defaultdict[M, list[tuple[Fits, Structure, Conditions, M]]](list)

    def find(self, *arguments: Arrays) -> tuple[list[Tensor], M] | None:
        """List the tensors of the arguments, and find what runs the function on them.

        None if autograd, torch.func, a tracer or a mode has to see the function.
        """
        state = arguments[0] if arguments else ()
        of_rest, structure = flatten(arguments[1:])
        nothing: tuple[list[Tensor], M | None] = [], None
        leaves, before = self.made.pop(state, nothing) if is_record(type(state)) else nothing
        if before is not None and not is_forward_mode():
            tensors = [*leaves, *of_rest]
            now = _conditions(tensors, self.place)
            for fits, *of, memo in self.after[before]:
                if of == [structure, now] and fits(*tensors):
                    return tensors, memo
        leaves, of_state = flatten(state)
        tensors = [*leaves, *of_rest]
        if not _can_be_recorded(tensors):
            return None
        now = _conditions(tensors, self.place)
        kind = of_state, structure, layouts(tensors), now
        if kind not in self.kinds:
            if len(self.kinds) == self.most:  # the oldest one goes, also from what followed what
                del self.kinds[next(iter(self.kinds))]
                self.after.clear()
            self.kinds[kind] = self.make(len(leaves), now[0] is not None, *arguments)
        memo = self.kinds[kind]
        if before is not None:
            self.after[before].append((_fits_like(tensors), structure, now, memo))
        return tensors, memo

    def keep(self, state: Arrays, leaves: Sequence[Tensor], memo: M) -> None:
        """Remember the tensors of a new state, and what has made it."""
        self.made[state] = [*leaves], memo


def _fits_like(tensors: Sequence[Tensor]) -> Fits:
    """Make a function that compares tensors' shapes, strides, dtypes and devices with these."""
    try:
        guards: Any = torch._C._dynamo.guards  # Any: torch does not say what is in there
        fits: Fits = guards.TensorGuards(
            *tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None
        ).check
        return fits
    except (AttributeError, TypeError):  # a torch without this name
        kind = layouts(tensors)
        return lambda *others: layouts(others) == kind and not is_transformed(*others)


def address(tensor: Tensor) -> int:
    """Return where a tensor's memory lies."""
    return tensor.untyped_storage().data_ptr()


def _conditions(tensors: Sequence[Tensor], place: Callable[[Tensor], int] | None) -> Conditions:
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


def _can_be_recorded(tensors: Sequence[Tensor]) -> bool:
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
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return True
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
