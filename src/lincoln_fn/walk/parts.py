"""The parts of a composition: errors that name their position, and checks of tuples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import attrs
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.declaration import Declaration, declared_by
from lincoln_fn.core.layer import Cache, Layer, Params, unchanged
from lincoln_fn.core.record import State
from lincoln_fn.errors.descriptions import A_TUPLE, describe, format_briefly
from lincoln_fn.errors.errors import LayerError, place
from lincoln_fn.errors.suggestions import suggest

R = TypeVar("R")
_WALK: Final = Path(__file__).parent
_LIBRARY: Final = _WALK.parent


def place_parts(label: str, layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Make layers whose errors name their position in a composition."""
    return tuple(_place(f"{label}[{i}]", layer) for i, layer in enumerate(layers))


def _place(position: str, layer: Layer) -> Layer:
    def place_function(name: str) -> Any:  # Any: a function of the protocol
        function = getattr(layer, name)
        return function if function is unchanged else Placed(position, layer.name, name, function)

    functions = ("forward", "backward", "init", "predict", "input_grad", "grads", "advance")
    return layer.replace(
        spec=layer.spec,
        **{name: place_function(name) for name in functions},
        composition=layer.composition,
    )


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
        return declared_by(self.function)

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
        placed_error = place(error, position, layer)
        placed_error.__cause__ = error.__cause__
        return placed_error.with_traceback(_without_walk(error.__traceback__))
    problem = f"{doing} raised {type(error).__name__} on {format_briefly(given)}: {error}"
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
    """Check that a tuple has one entry per part.

    Args:
        label: the composition's name.
        what: the name of the tuple.
        given: the tuple given.
        count: how many parts there are.

    Raises:
        LayerError: if it is not a tuple, or one of another length.

    Example:
        >>> check_entries("serial", "params", ((), ()), 3)
        Traceback (most recent call last):
        lincoln_fn.LayerError: serial: expected params with 3 entries, got ((), ())
    """
    is_tuple = type(given) is tuple or type(given) is Owned
    if not (isinstance(given, tuple | Owned) and is_tuple and len(given) == count):
        entries = "1 entry" if count == 1 else f"{count} entries"
        mend = suggest(given, what) or (A_TUPLE if isinstance(given, list) else "")
        problem = f"expected {what} with {entries}, got {describe(given)}"
        raise LayerError(label, f"{problem}; {mend}" if mend else problem)


class Owned:
    """A composition's cache without other references: an entry is freed when it is read."""

    # A training step owns its caches, so each part's cache is freed as soon as the backward walk
    # has passed the part. Only a composition that is declared with `reads_once` gets one; any other
    # gets the tuple of `forward`.

    __slots__ = ("_entries", "_mark", "_reader")

    def __init__(self, entries: Iterable[Any], reader: str = "") -> None:  # Any: caches
        self._entries = entries if isinstance(entries, list) else list(entries)
        self._reader = reader
        self._mark = object()  # takes the place of an entry that was read

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, i: int | slice) -> Any:  # Any: a cache, or a tuple of them
        if isinstance(i, slice):
            return tuple(self[j] for j in range(*i.indices(len(self))))
        entry, self._entries[i] = self._entries[i], self._mark
        if type(entry) is object:
            problem = f"reads entry {i} of its cache a second time, although it is declared with"
            own = LayerError(self._reader, f"{problem} reads_once=True; leave reads_once out")
            raise own if entry is self._mark else _read_before(self._reader)
        return take_ownership(entry)

    def __repr__(self) -> str:
        return format_briefly(to_tuple(self))


def _read_before(reader: str) -> LayerError:
    problem = "its cache was read before: a combinator around it uses an entry of its own cache"
    mend = "twice, although it is declared with reads_once=True; leave reads_once out there"
    return LayerError(reader, f"{problem} {mend}")


def take_ownership(cache: Cache) -> Cache:
    """Make an `Owned` cache of a tuple without other references; any other cache stays as it is."""
    return Owned(cache) if type(cache) is tuple else cache


def make_readable(cache: Cache, reader: str, *, once: bool = False) -> Cache:
    """Return a composition's cache as its loop reads it: an owned one only if it is read once."""
    if type(cache) is not Owned:
        return cache
    if once:
        return Owned(cache._entries, reader)
    if any(type(entry) is object for entry in cache._entries):
        raise _read_before(reader)
    return to_tuple(cache)


def to_tuple(cache: Cache) -> Cache:
    """Convert an `Owned` cache back to the tuple of `forward`; any other cache stays as it is."""
    return tuple(cache._entries) if type(cache) is Owned else cache


def is_trained(params: Params) -> bool:
    """Return whether parameters have a leaf that an optimizer updates.

    Args:
        params: of any layer.

    Returns:
        False for the empty tuple, for a `State`, and for trees that contain only these.

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
