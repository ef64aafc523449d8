"""The visitors that a composition's loops get, and what a walk does at a part: a function.

    there   visit(part, path, params, x, wants) -> (y, record)
    back    visit(part, path, params, cache, g, wants) -> (dx, record)

The protocol's walks call the part's own function; those of `walks.py` go into compositions.

An error names the part. Outputs within the composition are taken out where a part returns them, and
their gradients are added to the g that the part gets; the loops see neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
import torch

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, LayerError, Params, check_pair, is_ours, tree
from lincoln_fn.walk.arrangement import Record
from lincoln_fn.walk.init import recall
from lincoln_fn.walk.parts import ERRORS, Parts, Tap, inside, is_trained, place_error


@attrs.frozen
class Wants:
    """What a backward walk needs from a layer."""

    dx: bool
    dparams: bool

    @property
    def function(self) -> str:
        """The function that computes this, as errors name it."""
        return "backward" if self.dx == self.dparams else "input_grad" if self.dx else "grads"


ALL: Final = Wants(dx=True, dparams=True)
DX: Final = Wants(dx=True, dparams=False)
DPARAMS: Final = Wants(dx=False, dparams=True)
NOTHING: Final = Wants(dx=False, dparams=False)


def keep(record: Record, later: tuple[Record, ...]) -> tuple[Record, ...]:
    """Keep the record of each use of a part."""
    return record, *later


def sum_uses(record: Record, later: tuple[Record, ...]) -> tuple[Record, ...]:
    """Keep the sum of the gradients of all uses of a part."""
    return (tree.map(torch.add, later[0], record),) if later else (record,)


def untrained(layer: Layer, path: str, params: Params) -> Params:
    """Return the params of a part from which nothing is needed, in place of its gradient."""
    return params


def _advance(part: Layer, params: Params, cache: Cache) -> Params:
    return part.advance(params, cache)


@attrs.frozen(eq=False)
class Walk:
    """What a walk does at a part.

    `advance(part, params, record)` advances a part's state between two uses; on the way back, the
    record is its cache. `skip(part, path, params)` is the record of a part that nothing needs; None
    visits it. `add(record, later)` are the records of a part that is used several times.
    """

    visit: Callable[..., tuple[Arrays, Record]]
    name: str = "forward"  # the part's function on the way there, as errors name it
    advance: Callable[[Layer, Params, Record], Params] = _advance
    skip: Callable[[Layer, str, Params], Record] | None = None
    add: Callable[[Record, tuple[Record, ...]], tuple[Record, ...]] = keep
    allows_loops: bool = False  # as the function `allows_loops` says


def _forward(
    part: Layer, path: str, params: Params, x: Arrays, wants: Wants
) -> tuple[Arrays, Cache]:
    return part.forward(params, x)


def _predict(
    part: Layer, path: str, params: Params, x: Arrays, wants: Wants
) -> tuple[Arrays, None]:
    return recall(part.predict, params, x), None


def unmoved(part: Layer, params: Params, record: Record) -> Params:
    """Leave the state of a part as it is."""
    return params


def backward(
    part: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
) -> tuple[Arrays, Params]:
    """Compute what is wanted of dx and dparams."""
    if not wants.dparams:
        return part.input_grad(params, cache, g), None
    return part.backward(params, cache, g) if wants.dx else (None, part.grads(params, cache, g))


FORWARD: Final = Walk(_forward, allows_loops=True)
PREDICT: Final = Walk(_predict, "predict", unmoved, allows_loops=True)
BACKWARD: Final = Walk(backward, skip=untrained, add=sum_uses, allows_loops=True)


@attrs.define(eq=False)
class Visitor:
    """What the visitors of both loops have. One belongs to one composition in one walk."""

    made: Parts
    walk: Walk
    path: str = ""
    params: Params = None  # of the composition, where less than `ALL` is wanted
    wants: Wants = ALL
    # The part visited last, and its dx, to name the part whose dx is refused.
    last: tuple[int, Arrays] | None = None
    # The outputs that are taken out; on the way back, their gradients.
    outputs: list[Arrays] = attrs.field(init=False, repr=False)

    @property
    def label(self) -> str:
        """The composition's name in errors."""
        return self.made.label

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The parts; their errors name their position."""
        return self.made.placed

    def advance(self, i: int, params: Params, record: Record) -> Params:
        """Advance the state of part i; on the way back, `record` is its cache."""
        try:
            return self.walk.advance(self.made.parts[i], params, record)
        except ERRORS as error:
            placed = self.place(i, error, "advance", record)
            raise placed from placed.__cause__

    def place(self, i: int, error: Exception, doing: str, given: object) -> LayerError:
        """Make the error that names part i."""
        return place_error(error, f"{self.label}[{i}]", self.made.parts[i].name, doing, given)

    def wants_of_part(self, i: int, params: Params, train: bool = True) -> Wants:
        """Return what is needed from part i, of the composition's `wants`."""
        if self.wants.dx:
            return self.wants if train else DX
        if self.wants.dparams:
            if self.made.needs_dx(i, self.params):
                return ALL if train else DX
            if train and is_trained(params):
                return DPARAMS
        return NOTHING


@attrs.define(eq=False)
class VisitThere(Visitor):
    """The visitor that the loop `there` gets."""

    def run(
        self, loop: Callable[..., tuple[Arrays, Record]], params: Params, x: Arrays
    ) -> tuple[Arrays, Record]:
        """Run a loop there; y is (y, outputs) if some are taken out."""
        taps = self.made.taps.values()
        if not taps:
            return loop(self, params, x)
        self.outputs = [None] * sum(tap.count for tap in taps)
        y, record = loop(self, params, x)
        return (y, tuple(self.outputs)), record

    def __call__(
        self, i: int, params: Params, x: Arrays, train: bool = True
    ) -> tuple[Arrays, Record]:
        """Visit part i."""
        part, wants = self.made.parts[i], self.wants_of_part(i, params, train)
        try:
            result = self.walk.visit(part, inside(self.path, i), params, x, wants)
            check_pair(part.name, "forward", result)
        except ERRORS as error:
            placed = self.place(i, error, self.walk.name, x)
            raise placed from placed.__cause__
        tap = self.made.taps.get(i)
        return result if tap is None else (self._take_out(i, tap, result[0]), result[1])

    def _take_out(self, i: int, tap: Tap, y: Arrays) -> Arrays:
        """Take the outputs at part i out of what it returned, and return its y."""
        if self.outputs[tap.first] is not None:
            raise core.unexpected("tapped", "a part that runs once", f"{self.label}[{i}]")
        if tap.count > tap.is_output:
            y, self.outputs[tap.within] = y
        if tap.is_output:
            self.outputs[tap.first] = y
        return y


@attrs.define(eq=False)
class VisitBack(Visitor):
    """The visitor that the loop `back` gets."""

    def run(
        self, loop: Callable[..., tuple[Arrays, Record]], params: Params, cache: Cache, g: Arrays
    ) -> tuple[Arrays, Record]:
        """Run a loop back; g is (g, gradients of the outputs) if some are taken out."""
        if self.made.taps:
            g, self.outputs = g[0], [*g[1]]
        return loop(self, params, cache, g)

    def __call__(
        self, i: int, params: Params, cache: Cache, g: Arrays, train: bool = True
    ) -> tuple[Arrays, Record]:
        """Visit part i."""
        walk, part, path = self.walk, self.made.parts[i], inside(self.path, i)
        wants = self.wants_of_part(i, params, train)
        if (tap := self.made.taps.get(i)) is not None:
            g = self._put_in(tap, g)
        if wants is NOTHING and walk.skip is not None:
            return None, walk.skip(part, path, params)
        try:
            result = walk.visit(part, path, params, cache, g, wants)
            check_pair(part.name, "backward", result)
        except ERRORS as error:
            placed = self.blame(self.place(i, error, wants.function, g), g)
            raise placed from placed.__cause__
        self.last = i, result[0]
        return result

    def _put_in(self, tap: Tap, g: Arrays) -> Arrays:
        """Add the gradients of the outputs at a part to its g."""
        of_output = self.outputs[tap.first] if tap.is_output else None
        if g is None or of_output is None:
            g = of_output if g is None else g
        else:
            g = core.add_trees(g, of_output)
        return (g, tuple(self.outputs[tap.within])) if tap.count > tap.is_output else g

    def blame(self, error: LayerError, g: Arrays) -> LayerError:
        """Name the part that made a wrong dx, not the one that refused it as its g."""
        if self.last is None or not error.problem.startswith("expected g "):
            return error
        at, dx = self.last
        maker = self.made.parts[at]
        if dx is not g or not has_own(maker):
            return error
        problem = error.problem.replace("expected g of", "expected dx of x's", 1)
        problem = problem.replace("expected g", "expected dx", 1)
        made = LayerError(f"{self.label}[{at}] {maker.name}", problem)
        made.__cause__ = error.__cause__
        return made.with_traceback(error.__traceback__)

    def add(self, record: Record, later: tuple[Record, ...]) -> tuple[Record, ...]:
        """Add the record of one use of a part to those of its later uses; gradients are summed."""
        return self.walk.add(record, later)


def allows_loops(visit: Visitor) -> bool:
    """Return whether a loop over a part's uses may be traced once, as one operation.

    Then visits return tensors alone, and only the composition's functions read their records.
    """
    return isinstance(visit, Visitor) and visit.walk.allows_loops


def has_own(part: Layer) -> bool:
    """Return whether a part, or one within it, has a function that is not the library's."""
    loops: Any = part.composition or part  # Any: a composition or a layer
    there, back = (loops.there, loops.back) if part.composition else (loops.forward, loops.backward)
    return not (is_ours(there) and is_ours(back)) or any(map(has_own, part.parts))
