"""The loops of a composition on the way to outputs within it, and the same network without them.

Such a composition returns (y, outputs), and its g is (g, the outputs' gradients). A visitor around
the walk's own takes an output out where a part returns it, and adds its gradient to the g that the
part gets. The composition's own loops see neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs

from lincoln_fn.core import Arrays, Cache, Layer, LayerError, Params, add_trees
from lincoln_fn.walk import VisitBack, VisitThere
from lincoln_fn.walk.internal import Around, Back, Record, There, composition_of


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


Taps: TypeAlias = Mapping[int, Tap]
Outputs: TypeAlias = tuple[Arrays, tuple[Arrays, ...]]
# Any: a loop there or back, and what they return.
Loop: TypeAlias = Callable[..., Any]


@attrs.frozen(eq=False)
class _Tapping(Around):
    """What the visitors of both loops have beside the walk's own."""

    taps: Taps
    outputs: list[Arrays]  # of the parts there, their gradients on the way back


@attrs.frozen(eq=False)
class _TakingOut(_Tapping):
    """A visitor that takes outputs out."""

    def __call__(self, i: int, params: Params, x: Arrays) -> tuple[Arrays, Record]:
        y, record = self.visit(i, params, x)
        tap = self.taps.get(i)
        if tap is None:
            return y, record
        if self.outputs[tap.first] is not None:
            raise LayerError("tapped", f"expected a part that runs once, got {self.label}[{i}]")
        if tap.count > tap.is_output:
            y, self.outputs[tap.within] = y
        if tap.is_output:
            self.outputs[tap.first] = y
        return y, record


@attrs.frozen(eq=False)
class _AddingG(_Tapping):
    """A visitor that adds the gradients of outputs to g."""

    def __call__(
        self, i: int, params: Params, cache: Cache, g: Arrays, train: bool = True
    ) -> tuple[Arrays, Record]:
        tap = self.taps.get(i)
        if tap is not None:
            if tap.is_output:
                g = _sum(g, self.outputs[tap.first])
            if tap.count > tap.is_output:
                g = (g, tuple(self.outputs[tap.within]))
        result: tuple[Arrays, Record] = self.visit(i, params, cache, g, train)
        return result


def _sum(g: Arrays, more: Arrays) -> Arrays:
    return more if g is None else g if more is None else add_trees(g, more)


@attrs.frozen(eq=False)
class _Loop:
    """A composition's own loop, with outputs: `run` is one of the two functions below."""

    run: Loop
    own: Loop
    taps: Taps

    def __call__(self, *arguments: Arrays) -> Arrays:
        return self.run(self.own, self.taps, *arguments)


def _outputs_there(
    own: There, taps: Taps, visit: VisitThere, params: Params, x: Arrays
) -> tuple[Outputs, Record]:
    """Run a composition's loop there, and return the outputs within it beside y."""
    outputs: list[Arrays] = [None] * sum(tap.count for tap in taps.values())
    taking_out: Any = _TakingOut(visit, taps, outputs)  # Any: it stands for a VisitThere
    y, record = own(taking_out, params, x)
    return (y, tuple(outputs)), record


def _outputs_back(
    own: Back, taps: Taps, visit: VisitBack, params: Params, cache: Cache, g: Outputs
) -> tuple[Arrays, Record]:
    """Run a composition's loop back, and add the gradients of the outputs where they were taken."""
    adding_g: Any = _AddingG(visit, taps, [*g[1]])  # Any: it stands for a VisitBack
    return own(adding_g, params, cache, g[0])


def own_loop(loop: Loop) -> Loop:
    """Return a composition's loop as it is without outputs."""
    return loop.own if isinstance(loop, _Loop) else loop


def taps_of(loop: Loop) -> Taps:
    """Return the outputs that a loop takes out, by the part; none if it takes none."""
    return loop.taps if isinstance(loop, _Loop) else {}


def with_outputs(loop: Loop, like: Loop) -> Loop:
    """Make a loop that takes out the outputs that another one takes out, if it does."""
    return attrs.evolve(like, own=loop) if isinstance(like, _Loop) else loop


def open_to(layer: Layer, path: str, chosen: tuple[str, ...]) -> tuple[Layer, list[str]]:
    """Make a layer that returns the outputs at some paths within it, and list them in order."""
    composed = composition_of(layer)
    if composed is None:
        return layer, []
    parts, found, taps = list(composed.parts), list[str](), dict[int, Tap]()
    for i, part in enumerate(composed.parts):
        own_path = composed.inside(path, i)
        parts[i], within = open_to(part, own_path, chosen)
        here = [own_path] if own_path in chosen else []
        if here or within:
            taps[i] = Tap(len(found), len(here) + len(within), bool(here))
            found += here + within
    if not taps:
        return layer, []
    of_predict = composed.predict_there
    changes = {
        "there": _Loop(_outputs_there, composed.there, taps),
        "back": _Loop(_outputs_back, composed.back, taps),
    }
    if of_predict is not composed.there:
        changes["predict"] = _Loop(_outputs_there, of_predict, taps)
    return layer.rebuild(tuple(parts), **changes), found


def close(layer: Layer) -> Layer:
    """Make the layer that `open_to` was given, of the parts that the opened one has now."""
    composed = composition_of(layer)
    if composed is None or own_loop(composed.there) is composed.there:
        return layer
    own = {"there": own_loop(composed.there), "back": own_loop(composed.back)}
    if composed.predict_there is not composed.there:
        own["predict"] = own_loop(composed.predict_there)
    parts = tuple(map(close, composed.parts))
    return layer.rebuild(parts, **own)
