"""Functions of a layer around one part, whose params are the part's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lincoln_fn.core import Arrays, Cache, Key, Layer, Params
from lincoln_fn.walk.arrangement import ITS_PART
from lincoln_fn.walk.composition import Back, There, VisitRecord, composition
from lincoln_fn.walk.visits import Record, VisitThere


def gather(visit: VisitRecord, params: Params, records: Record) -> Params:
    """Return the gradient of the part."""
    return visit(0, params, records)


def init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    """Make the params of the part."""
    return parts[0].init(key, x)


def needs_dx(i: int, params: Params) -> bool:
    """Say that the gradient of the part needs no dx."""
    return False


def advance(visit: VisitThere, params: Params, cache: Cache) -> Params:
    """Advance the state of the part, whose cache is the composition's."""
    return visit.advance(0, params, cache)


# Any: arguments of `composition`, by name.
def around(
    label: str | Callable[..., Layer], part: Layer, there: There, back: Back, **options: Any
) -> Layer:
    """Make a composition around one part, whose params, gradient and cache are the part's own."""
    own = {
        "gather": gather, "init": init, "advance": advance, "needs_dx": needs_dx,
        "arrange": ITS_PART,
    }  # fmt: skip
    return composition(label, (part,), there, back, **{**own, **options})
