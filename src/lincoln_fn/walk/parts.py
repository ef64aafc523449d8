"""The parts of a composition: their paths and params, and errors that name their position.

A walk through nested compositions is a recursion, with a few Python calls per level. Python's
recursion limit, 1,000 calls by default, is a setting of the whole process: `make_room` raises it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import attrs
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import A_TUPLE, Declaration, Layer, LayerError, Params, State, describe, tree
from lincoln_fn.walk.arrangement import ENTRIES, Arrangement

_WALK: Final = Path(__file__).parent
_LIBRARY: Final = _WALK.parent


@attrs.frozen
class Tap:
    """The outputs that are taken out at a part: its own, if it is one, and those within it."""

    first: int
    count: int
    is_output: bool

    @property
    def within(self) -> slice:
        """Where the outputs within the part are, among those of the composition."""
        return slice(self.first + self.is_output, self.first + self.count)


@attrs.frozen(eq=False, slots=False, kw_only=True)  # slots of attrs 2023 keep no cached property
class Parts:
    """The parts of a composition, as its visitors know them; `composition` explains the fields."""

    label: str
    parts: tuple[Layer, ...] = attrs.field()
    arrange: Arrangement
    names: tuple[str, ...] = attrs.field()
    needs_dx: Callable[[int, Params], bool]
    # The outputs that are taken out, by the part. Then y is (y, outputs), and g their gradients.
    taps: Mapping[int, Tap] = attrs.Factory(dict)

    @parts.validator
    def _check_parts(self, attribute: object, parts: tuple[Layer, ...]) -> None:
        for i, part in enumerate(parts):
            if not isinstance(part, Layer):
                raise core.wrong_kind(f"{self.label}[{i}]", "", part, "Layer")

    @names.validator
    def _check_names(self, attribute: object, names: tuple[str, ...]) -> None:
        if names and len(names) != len(self.parts):
            raise core.unexpected(self.label, f"{len(self.parts)} names of parts", names)

    @cached_property
    def placed(self) -> tuple[Layer, ...]:
        """The parts; their errors name their position."""
        return place_parts(self.label, self.parts)

    def inside(self, path: str, i: int) -> str:
        """Return the path of part i, by its name if it has one."""
        name = (self.names[i] if self.names else "") or str(i)
        return f"{path}.{name}" if path else name

    def split_params(self, params: Params) -> tuple[Params, ...]:
        """Return the params of each part, () for one without any."""
        if self.arrange == ENTRIES and type(params) is not tuple:
            expected = "params with an entry for each part"
            mend = "say by arrange= how they are made"
            raise core.unexpected(self.label, expected, core.describe(params), mend)
        if self.arrange.kind is not None:
            core.check_params(self.label, params, self.arrange.kind)
        split = self.arrange.split(params)
        return (*split, *((),) * (len(self.parts) - len(split)))


def always(i: int, params: Params) -> bool:
    """Say that a trained part needs the dx of every part."""
    return True


def inside(path: str, i: int) -> str:
    """Return the path of part i of the composition at a path."""
    return f"{path}.{i}" if path else str(i)


def place_parts(label: str, layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Make layers whose errors name their position in a composition."""
    return tuple(_place(f"{label}[{i}]", layer) for i, layer in enumerate(layers))


def _place(position: str, layer: Layer) -> Layer:
    names = ("forward", "backward", "init", "predict", "input_grad", "grads", "advance")
    own = {name: getattr(layer, name) for name in names}
    wrapped = {name: f for name, f in own.items() if f is not core.unchanged}
    placed = {name: Placed(position, layer.name, name, f) for name, f in wrapped.items()}
    return layer.replace(spec=layer.spec, composition=layer.composition, **placed)


@attrs.frozen(eq=False)
class Placed:
    """A function whose errors name the position of its part."""

    position: str  # of the part, such as "serial[0]"
    layer: str  # the part's name, such as "dense(10)"
    doing: str  # what the function does, such as "forward"
    # the function
    function: Callable[..., Any]  # Any: of every protocol function and visitor

    @property
    def declaration(self) -> Declaration:
        """What is declared of the function."""
        return core.declared_by(self.function)

    def __call__(self, *arguments: Any, **options: Any) -> Any:  # Any: as the function has them
        """Call the function."""
        try:
            return self.function(*arguments, **options)
        except ERRORS as error:
            given = {name: options[name] for name in ("x", "g") if name in options}
            last = (None, *arguments, *given.values())[-1]
            placed_error = place_error(error, self.position, self.layer, self.doing, last)
            raise placed_error from placed_error.__cause__


# Errors that a layer's function, or its arguments, may raise.
ERRORS: Final = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)


def place_error(
    error: Exception, position: str, layer: str, doing: str, given: object
) -> LayerError:
    """Make an error that names the position of the part that raised another."""
    # It replaces a `LayerError`: it has its cause and its traceback, without the walk's own frames,
    # of which every level of a network adds some. Any other error becomes its cause.
    if isinstance(error, LayerError):
        placed_error = core.place(error, position, layer)
        placed_error.__cause__ = error.__cause__
        return placed_error.with_traceback(_without_walk(error.__traceback__))
    problem = f"{doing} raised {type(error).__name__} on {core.format_briefly(given)}: {error}"
    made = LayerError(f"{position} {layer}", problem)
    made.__cause__ = error
    return made


def _without_walk(traceback: TracebackType | None) -> TracebackType | None:
    """Drop the library's frames before the last one of the walk; a user's own frames stay."""
    frames: list[TracebackType] = []
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    files = [Path(frame.tb_frame.f_code.co_filename) for frame in frames]
    last = max((i for i, file in enumerate(files) if file.parent == _WALK), default=0)
    kept = None
    for i in reversed(range(len(frames))):
        if i >= last or _LIBRARY not in files[i].parents:
            frame = frames[i]
            kept = TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return kept


def check_entries(label: str, what: str, given: object, count: int) -> None:
    """Check that what is `given` for `what`, of composition `label`, is a tuple of `count` entries.

    Example:
        >>> check_entries("serial", "params", ((), ()), 3)
        Traceback (most recent call last):
        lincoln_fn.LayerError: serial: expected params with 3 entries, got ((), ())
    """
    if not (type(given) is tuple and len(given) == count):
        entries = "1 entry" if count == 1 else f"{count} entries"
        mend = core.suggest(given, what) or (A_TUPLE if isinstance(given, list) else "")
        raise core.unexpected(label, f"{what} with {entries}", describe(given), mend)


def is_trained(params: Params) -> bool:
    """Return whether parameters have a leaf that an optimizer updates: one outside a `State`.

    Example:
        >>> is_trained(()), is_trained((torch.zeros(1),))
        (False, True)
    """
    if isinstance(params, Tensor):
        return True
    if isinstance(params, State) or (type(params) is tuple and not params):
        return False
    below = tree.children(params)
    return any(map(is_trained, below)) if below else bool(tree.leaves(params))


# The largest number of calls per level, which `summary` of a residual needs. And the calls that a
# single layer, a test runner or a notebook needs.
_A_LEVEL: Final = 10
_BESIDE: Final = 500
# Python's stack and optree, which lists the params, end at about twice as many.
MOST: Final = 500


def make_room(label: str, depth: int) -> None:
    """Raise Python's recursion limit if a walk through a deeply nested network would reach it."""
    if depth > MOST:
        expected = f"at most {MOST} compositions within each other"
        raise core.unexpected(label, expected, depth, "write one serial of many parts")
    # The limit is never lowered: other threads may be in the middle of a walk.
    needed = _A_LEVEL * depth + _BESIDE
    if sys.getrecursionlimit() < needed:
        sys.setrecursionlimit(needed)
