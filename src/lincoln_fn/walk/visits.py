"""The visitors that a composition's loops get: what a walk does, at each of the parts.

A walk says by its method `run` what is done at a part. The protocol's walks call the part's own
function there. Those of `lincoln_fn.walk.walks` go into each part that is a composition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import attrs
import torch

from lincoln_fn.core import tree
from lincoln_fn.core.layer import Arrays, Cache, Composed, Layer, Params, is_ours
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.kinds import check_pair
from lincoln_fn.walk.parts import ERRORS, place_error, to_tuple
from lincoln_fn.walk.wants import ALL, NOTHING, Wants, wants_of_part

# Any: a visitor's record of a part, or the records that a loop returns.
Record: TypeAlias = Any


class Visit(Protocol):
    """What the visitors of both loops have."""

    @property
    def label(self) -> str:
        """The composition's name in errors."""

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The parts; their errors name their position."""

    def advance(self, i: int, params: Params, record: Record, /) -> Params:
        """Advance the state of part i; on the way back, `record` is its cache."""


class VisitThere(Visit, Protocol):
    """The visitor that the loop `there` gets."""

    def __call__(self, i: int, params: Params, x: Arrays, /) -> tuple[Arrays, Record]:
        """Visit part i."""


class VisitBack(Visit, Protocol):
    """The visitor that the loop `back` gets."""

    def __call__(
        self, i: int, params: Params, cache: Cache, g: Arrays, /, train: bool = True
    ) -> tuple[Arrays, Record]:
        """Visit part i."""

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


class WalkThere(Protocol):
    """What a forward walk does at a part."""

    @property
    def name(self) -> str:
        """The part's function, as errors name it."""

    @property
    def allows_loops(self) -> bool:
        """As the function `allows_loops` says."""

    def run(
        self, part: Layer, path: str, params: Params, x: Arrays, wants: Wants, /
    ) -> tuple[Arrays, Record]:
        """Return y and the record of a part."""

    def advance(self, part: Layer, params: Params, record: Record, /) -> Params:
        """Advance the state of a part, between two uses of it."""


class WalkBack(Protocol):
    """What a backward walk does at a part."""

    @property
    def allows_loops(self) -> bool:
        """As the function `allows_loops` says."""

    @property
    def skip(self) -> Callable[[Layer, str, Params], Record] | None:
        """Of (part, path, params), its record if nothing is needed from it; None: it is visited."""

    @property
    def add(self) -> Callable[[Record, tuple[Record, ...]], tuple[Record, ...]]:
        """Add a record to the later ones of the same part, as `VisitBack.add` says."""

    def run(
        self, part: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants, /
    ) -> tuple[Arrays, Record]:
        """Return dx and the record of a part."""

    def advance(self, part: Layer, params: Params, cache: Cache, /) -> Params:
        """Advance the state of a part, as the forward walk did."""


W = TypeVar("W", WalkThere, WalkBack)


# Not frozen: one is made for each composition of each walk, and `frozen` would double the time. It
# changes only as `PartsBack` says.
@attrs.define(eq=False)
class Parts(Generic[W]):
    """What the visitors of both loops share."""

    made: Connected
    walk: W
    path: str | None = None  # None: the walk reads no paths, and gets ""
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
        made, wants = self.made, self.wants
        part, path = made.parts[i], "" if self.path is None else inside(self.path, i)
        if not wants.dx:
            wants = wants_of_part(made.needs_dx, i, self.params, params, wants)
        try:
            result = self.walk.run(part, path, params, x, wants)
            if made.has_own:
                check_pair(part.name, "forward", result)
            return result
        except ERRORS as error:
            placed = self.place(i, error, self.walk.name, x)
            raise placed from placed.__cause__


@attrs.define(eq=False)
class PartsBack(Parts[WalkBack]):
    """The visitor of a loop back."""

    # The part visited last, and what it returned, to name the part whose dx is refused. Set at each
    # visit, and only where a part is not the library's.
    last: int | None = None
    result: Record = None

    def __call__(
        self, i: int, params: Params, cache: Cache, g: Arrays, train: bool = True
    ) -> tuple[Arrays, Record]:
        """Visit part i."""
        made, walk, wants = self.made, self.walk, self.wants
        part, path = made.parts[i], "" if self.path is None else inside(self.path, i)
        if not (wants.dx and train):
            wants = wants_of_part(made.needs_dx, i, self.params, params, wants, train)
        if wants is NOTHING and walk.skip is not None:
            return None, walk.skip(part, path, params)
        try:
            result = walk.run(part, path, params, cache, g, wants)
            if made.has_own:
                check_pair(part.name, "backward", result)
                self.last, self.result = i, result
            return result
        except ERRORS as error:
            placed = self.blame(self.place(i, error, wants.function, g), g)
            raise placed from placed.__cause__

    def blame(self, error: LayerError, g: Arrays) -> LayerError:
        """Name the part that made a wrong dx, not the one that refused it as its g."""
        if self.last is None or not error.problem.startswith("expected g "):
            return error
        maker = self.made.parts[self.last]
        if self.result[0] is not g or not is_own(maker):
            return error
        problem = error.problem.replace("expected g of", "expected dx of x's", 1)
        problem = problem.replace("expected g", "expected dx", 1)
        made = LayerError(f"{self.label}[{self.last}] {maker.name}", problem)
        made.__cause__ = error.__cause__
        return made.with_traceback(error.__traceback__)

    def add(self, record: Record, later: tuple[Record, ...]) -> tuple[Record, ...]:
        """Add the record of one use of a part to those of its later uses."""
        return self.walk.add(record, later)


def allows_loops(visit: Visit) -> bool:
    """Return whether a loop over the uses of a part may be traced once, as one operation.

    Then a visit returns tensors alone, and what the loop there returns beside y is read only by the
    composition's own functions.
    """
    return isinstance(visit, PartsThere | PartsBack) and visit.walk.allows_loops


def is_own(part: Layer) -> bool:
    """Return whether a part, or one within it, has a function that is not the library's."""
    if part.composition is not None:
        return part.composition.has_own
    return not (is_ours(part.forward) and is_ours(part.backward))


def inside(path: str, i: int) -> str:
    """Return the path of part i of the composition at a path."""
    return f"{path}.{i}" if path else str(i)


class Forward:
    """The protocol's `forward`, at each part."""

    name = "forward"
    allows_loops = True

    def run(
        self, part: Layer, path: str, params: Params, x: Arrays, wants: Wants
    ) -> tuple[Arrays, Cache]:
        """Compute y and the cache."""
        return part.forward(params, x)

    def advance(self, part: Layer, params: Params, cache: Cache) -> Params:
        """Advance the state of a part."""
        return part.advance(params, cache)


class Predict:
    """The protocol's `predict`, at each part."""

    name = "predict"
    allows_loops = True

    def run(
        self, part: Layer, path: str, params: Params, x: Arrays, wants: Wants
    ) -> tuple[Arrays, None]:
        """Compute y, without a cache."""
        return part.predict(params, x), None

    def advance(self, part: Layer, params: Params, record: None) -> Params:
        """Leave the state of a part as it is."""
        return params


class Backward:
    """The protocol's `backward`, `input_grad` or `grads`, at each part."""

    allows_loops = True
    skip = staticmethod(untrained)
    add = staticmethod(sum_uses)

    def advance(self, part: Layer, params: Params, cache: Cache) -> Params:
        """Advance the state of a part."""
        return part.advance(params, cache)

    def run(
        self, part: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, Params]:
        """Compute what is wanted of dx and dparams."""
        if part.composition is None:  # only a composition takes an owned cache
            cache = to_tuple(cache)
        if not wants.dparams:
            return part.input_grad(params, cache, g), None
        return part.backward(params, cache, g) if wants.dx else (None, part.grads(params, cache, g))


FORWARD: Final = Forward()
PREDICT: Final = Predict()
BACKWARD: Final = Backward()

# Former pickles of networks name these classes, and nothing reads what they hold.
ForwardVisit = PredictVisit = BackwardVisit = InputGradVisit = PartsThere
