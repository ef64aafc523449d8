"""The visitors that a composition's loops get: what a walk does, at each of the parts.

A walk is a record of functions, above all `at`: what is done at a part. The protocol's walks call
the part's own function there. `lincoln_fn.walk.walks` goes into each part that is a composition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import attrs
import torch

from lincoln_fn.core import tree
from lincoln_fn.core.layer import Arrays, Cache, Composed, Layer, Params
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.walk.parts import ERRORS, place_error, to_tuple
from lincoln_fn.walk.wants import ALL, NOTHING, Wants, wants_of_part

# Any: a visitor's record of a part, or the records that a loop returns.
Record: TypeAlias = Any


class VisitThere(Protocol):
    """The visitor that the loop `there` gets."""

    @property
    def label(self) -> str:
        """The composition's name in errors."""

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The parts; their errors name their position."""

    def __call__(self, i: int, params: Params, x: Arrays, /) -> tuple[Arrays, Record]:
        """Visit part i."""

    def advance(self, i: int, params: Params, record: Record, /) -> Params:
        """Advance the state of part i."""


class VisitBack(Protocol):
    """The visitor that the loop `back` gets."""

    @property
    def label(self) -> str:
        """The composition's name in errors."""

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The parts; their errors name their position."""

    def __call__(
        self, i: int, params: Params, cache: Cache, g: Arrays, /, train: bool = True
    ) -> tuple[Arrays, Record]:
        """Visit part i."""

    def advance(self, i: int, params: Params, cache: Cache, /) -> Params:
        """Advance the state of part i."""

    def add(self, record: Record, later: tuple[Record, ...], /) -> tuple[Record, ...]:
        """Add the record of one use of a part to those of the part's later uses.

        Gradients are added up, so that the sum alone takes memory. Other records are kept in the
        order of the uses.
        """


def keep(record: Record, later: tuple[Record, ...]) -> tuple[Record, ...]:
    """Keep the record of each use of a part."""
    return record, *later


def sum_uses(record: Record, later: tuple[Record, ...]) -> tuple[Record, ...]:
    """Keep the sum of the gradients of all uses of a part."""
    return (tree.map(torch.add, later[0], record),) if later else (record,)


def untrained(layer: Layer, path: str, params: Params) -> Params:
    """Return the params of a part from which nothing is needed, in place of its gradient."""
    return params


class Connected(Composed, Protocol):
    """What a visitor reads of a composition."""

    @property
    def placed(self) -> tuple[Layer, ...]:
        """The parts; their errors name their position."""

    def needs_dx(self, i: int, params: Params, /) -> bool:
        """Return whether a trained part needs the dx of part i."""


@attrs.frozen(eq=False)
class WalkThere:
    """What a forward walk does at a part."""

    # (part, path, params, x, wants) -> (y, record)
    at: Callable[[Layer, str, Params, Arrays, Wants], tuple[Arrays, Record]]
    # (part, params, record) -> params, between two uses of a part
    advance: Callable[[Layer, Params, Record], Params]


@attrs.frozen(eq=False)
class WalkBack:
    """What a backward walk does at a part."""

    # (part, path, params, cache, g, wants) -> (dx, record)
    at: Callable[[Layer, str, Params, Cache, Arrays, Wants], tuple[Arrays, Record]]
    # (part, params, cache) -> params, as the forward walk advanced them
    advance: Callable[[Layer, Params, Cache], Params]
    # (part, path, params) -> record, for a part from which nothing is needed; None visits it anyway
    skip: Callable[[Layer, str, Params], Record] | None = untrained
    # (record, later) -> records of a part that is used several times, as `VisitBack.add` says
    add: Callable[[Record, tuple[Record, ...]], tuple[Record, ...]] = sum_uses


W = TypeVar("W", WalkThere, WalkBack)


# Never changed, but not frozen: one is made for each composition of each walk, and `frozen` would
# double the time.
@attrs.define(eq=False)
class Parts(Generic[W]):
    """What the visitors of both loops share."""

    made: Connected
    walk: W
    path: str = ""
    params: Params = None  # of the composition, where less than `ALL` is wanted
    wants: Wants = ALL

    @property
    def label(self) -> str:
        """The composition's name in errors."""
        return self.made.label

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The parts; their errors name their position."""
        return self.made.placed

    def advance(self, i: int, params: Params, record: Record) -> Params:
        """Advance the state of part i."""
        try:
            return self.walk.advance(self.made.parts[i], params, record)
        except ERRORS as error:
            placed = self.place(i, error, "advance", record)
            raise placed from placed.__cause__

    def place(self, i: int, error: Exception, doing: str, given: object) -> LayerError:
        """Make the error that names part i."""
        return place_error(error, f"{self.label}[{i}]", self.made.parts[i].name, doing, given)


@attrs.define(eq=False)
class PartsThere(Parts[WalkThere]):
    """The visitor of a loop there."""

    def __call__(self, i: int, params: Params, x: Arrays) -> tuple[Arrays, Record]:
        """Visit part i."""
        made = self.made
        part, path = made.parts[i], inside(self.path, i)
        wants = wants_of_part(made.needs_dx, i, self.params, params, self.wants)
        try:
            return self.walk.at(part, path, params, x, wants)
        except ERRORS as error:
            placed = self.place(i, error, "forward", x)
            raise placed from placed.__cause__


@attrs.define(eq=False)
class PartsBack(Parts[WalkBack]):
    """The visitor of a loop back."""

    def __call__(
        self, i: int, params: Params, cache: Cache, g: Arrays, train: bool = True
    ) -> tuple[Arrays, Record]:
        """Visit part i."""
        made, walk = self.made, self.walk
        part, path = made.parts[i], inside(self.path, i)
        wants = wants_of_part(made.needs_dx, i, self.params, params, self.wants, train)
        if wants is NOTHING and walk.skip is not None:
            return None, walk.skip(part, path, params)
        try:
            return walk.at(part, path, params, cache, g, wants)
        except ERRORS as error:
            placed = self.place(i, error, "backward", g)
            raise placed from placed.__cause__

    def add(self, record: Record, later: tuple[Record, ...]) -> tuple[Record, ...]:
        """Add the record of one use of a part to those of its later uses."""
        return self.walk.add(record, later)


def inside(path: str, i: int) -> str:
    """Return the path of part i of the composition at a path."""
    return f"{path}.{i}" if path else str(i)


def _forward(
    part: Layer, path: str, params: Params, x: Arrays, wants: Wants
) -> tuple[Arrays, Cache]:
    return part.forward(params, x)


def _predict(
    part: Layer, path: str, params: Params, x: Arrays, wants: Wants
) -> tuple[Arrays, None]:
    return part.predict(params, x), None


def _backward(
    part: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
) -> tuple[Arrays, Params]:
    """Compute what is wanted of dx and dparams."""
    if part.composition is None:  # only a composition takes an owned cache
        cache = to_tuple(cache)
    if wants.dparams:
        return part.backward(params, cache, g) if wants.dx else (None, part.grads(params, cache, g))
    return part.input_grad(params, cache, g), None


def advance_part(part: Layer, params: Params, record: Record) -> Params:
    """Advance the state of a part, from its cache."""
    return part.advance(params, record)


# The protocol's own walks.
FORWARD: Final = WalkThere(_forward, advance_part)
PREDICT: Final = WalkThere(_predict, lambda part, params, record: params)
BACKWARD: Final = WalkBack(_backward, advance_part)

# Former pickles of networks name these classes, and nothing reads what they hold.
ForwardVisit = PredictVisit = BackwardVisit = InputGradVisit = PartsThere
