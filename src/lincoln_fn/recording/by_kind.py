"""What runs on a function's arguments, by their kind; and trees of tensors as flat lists and back.

The kind is what a recorded program depends on beside the numbers, compared at each call. Only this
file of the room touches `torch._C`: to compare layouts in one call, and to see modes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import optree
import torch
from torch import Tensor

from lincoln_fn.core import EVERYTHING, Arrays, is_forward_mode, is_plain, is_record, is_transformed
from lincoln_fn.runtime import precision

# A function of as many tensors as it was made of.
Fits: TypeAlias = Callable[..., bool]
_TYPES: Final = (Tensor, torch.nn.Parameter)


def layouts(leaves: Sequence[Tensor]) -> tuple[Hashable, ...]:
    """Return the memory layout of tensors, which a compiled graph depends on."""
    try:
        return tuple([(leaf.shape, strides(leaf), leaf.dtype, leaf.device) for leaf in leaves])
    except (AttributeError, RuntimeError):
        return ()


def strides(x: Tensor) -> tuple[int, ...]:
    """Return a tensor's strides, 0 for an axis of one entry, whose stride does not matter."""
    shape, stride = x.shape, x.stride()
    if 1 not in shape:
        return stride
    return tuple([0 if n == 1 else s for n, s in zip(shape, stride, strict=True)])


def fits_like(tensors: Sequence[Tensor]) -> Fits:
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


def conditions(
    tensors: Sequence[Tensor], place: Callable[[Tensor], int] | None
) -> tuple[object, ...]:
    """Return what a program depends on beside the structure and the layouts of its arguments.

    `place` is `id`, or `address`, of what tensors share that the program cannot tell from each
    other; None if it can.
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
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return True
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


# Any: optree's class, whose constructor no type checker knows.
Structure: TypeAlias = Any
M = TypeVar("M", bound=Hashable)
# Makes what runs for one kind: of the number of the first argument's tensors, whether some tensors
# share a place, and the arguments.
Make: TypeAlias = Callable[..., M]


def flatten(given: Arrays) -> tuple[list[Tensor], Structure]:
    """List every tensor of a tree, from left to right."""
    return optree.tree_flatten(given, namespace=EVERYTHING)


class ByKind(Generic[M]):
    """What runs a function, found by the kind of the arguments; the first may be a state.

    It remembers each new state's flat tensors until it is used or freed, as a memo.
    """

    is_memo = True

    def __init__(
        self, make: Make[M], place: Callable[[Tensor], int] | None, most: int | None = None
    ) -> None:
        self.make, self.place, self.most = make, place, most  # `place` as `conditions` says
        self.kinds: dict[Hashable, M] = {}
        self.made: WeakKeyDictionary[Arrays, tuple[list[Tensor], M]] = WeakKeyDictionary()
        self.after = defaultdict[M, list[tuple[Fits, Structure, object, M]]](list)

    def find(self, *arguments: Arrays) -> tuple[list[Tensor], M] | None:
        """List the arguments' tensors, and find what runs on them; None if a mode has to see it."""
        state = arguments[0] if arguments else ()
        of_rest, structure = flatten(arguments[1:])
        nothing: tuple[list[Tensor], M | None] = [], None
        leaves, before = self.made.pop(state, nothing) if is_record(type(state)) else nothing
        if before is not None and not is_forward_mode():
            tensors = [*leaves, *of_rest]
            now = conditions(tensors, self.place)
            for fits, *of, memo in self.after[before]:
                if of == [structure, now] and fits(*tensors):
                    return tensors, memo
        leaves, of_state = flatten(state)
        tensors = [*leaves, *of_rest]
        if not can_be_recorded(tensors):
            return None
        now = conditions(tensors, self.place)
        kind = of_state, structure, layouts(tensors), now
        if kind not in self.kinds:
            if len(self.kinds) == self.most:  # the oldest one goes, also from what followed what
                del self.kinds[next(iter(self.kinds))]
                self.after.clear()
            self.kinds[kind] = self.make(len(leaves), now[0] is not None, *arguments)
        memo = self.kinds[kind]
        if before is not None:
            self.after[before].append((fits_like(tensors), structure, now, memo))
        return tensors, memo

    def keep(self, state: Arrays, leaves: Sequence[Tensor], memo: M) -> None:
        """Remember the tensors of a new state, and what has made it."""
        self.made[state] = [*leaves], memo


def make_builder(structure: Structure) -> Callable[[Sequence[Tensor]], Arrays]:
    """Generate the code of a function that builds a tree of its leaves."""
    # It takes two fifths of the time of optree, which has to handle any tree, and it makes records
    # without a call of their constructors. The difference is measurable in small networks.
    known: dict[str, Any] = {"new": object.__new__}  # Any: whatever the function calls
    leaves = [f"leaf_{i}" for i in range(structure.num_leaves)]
    rest = iter(leaves)
    lines = [f"({''.join(f'{leaf}, ' for leaf in leaves)}) = leaves"]

    def name_value(value: object) -> str:
        known[name := f"known_{len(known)}"] = value
        return name

    def code_of(part: Structure) -> str:
        if part.is_leaf():
            return next(rest)
        entries = [code_of(child) for child in part.children()]
        listed = f"({''.join(f'{entry}, ' for entry in entries)})"
        made = f"made_{len(lines)}"
        setters = getattr(part.type, "__tree_setters__", None)
        if part.type is tuple:
            lines.append(f"{made} = {listed}")
        elif setters is None:
            lines.append(f"{made} = {name_value(part.one_level().unflatten)}({listed})")
        else:
            lines.append(f"{made} = new({name_value(part.type)})")
            for setter, entry in zip(setters, entries, strict=True):
                lines.append(f"{name_value(setter)}({made}, {entry})")
        return made

    lines.append(f"return {code_of(structure)}")
    exec("def build(leaves):\n    " + "\n    ".join(lines), known)
    built: Callable[[Sequence[Tensor]], Arrays] = known["build"]
    return built
