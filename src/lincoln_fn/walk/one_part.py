"""Functions of a layer around one part, whose params are the part's own."""

from __future__ import annotations

from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Layer, Params
from lincoln_fn.walk.composition import VisitRecord
from lincoln_fn.walk.visits import Record


def gather(visit: VisitRecord, params: Params, records: Record) -> Params:
    """Return the gradient of the part."""
    return visit(0, params, records)


def init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    """Make the params of the part."""
    return parts[0].init(key, x)


def needs_dx(i: int, params: Params) -> bool:
    """Say that the gradient of the part needs no dx."""
    return False
