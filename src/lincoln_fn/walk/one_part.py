"""Functions of a layer around its first part: by default, the part as it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lincoln_fn.core import Arrays, Cache, Key, Layer, Params
from lincoln_fn.walk.arrangement import ITS_PART, Arrangement, Record
from lincoln_fn.walk.composition import Back, There, VisitRecord, composition
from lincoln_fn.walk.visitors import VisitBack, VisitThere


def there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Record]:
    """Compute y as the part does."""
    return visit(0, visit.made.split_params(params)[0], x)


def back(visit: VisitBack, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    """Compute the part's own dx and dparams."""
    return visit(0, visit.made.split_params(params)[0], cache, g)


def gather(visit: VisitRecord, params: Params, records: Record) -> Params:
    """Return the gradient of the part."""
    return visit(0, params, records)


def init(
    parts: tuple[Layer, ...], key: Key, x: Arrays, *, arrange: Arrangement = ITS_PART
) -> Params:
    """Make the params of the part."""
    return arrange.join((parts[0].init(key, x),), None)


def needs_dx(i: int, params: Params) -> bool:
    """Say that the gradient of the part needs no dx."""
    return False


def advance(visit: VisitThere, params: Params, cache: Cache) -> Params:
    """Advance the state of the part, whose cache is the composition's."""
    advanced = visit.advance(0, visit.made.split_params(params)[0], cache)
    return visit.made.arrange.join((advanced,), params)


# Any: arguments of `composition`, by name.
def around(
    label: str | Callable[..., Layer], part: Layer, there: There = there, back: Back = back,
    *, arrange: Arrangement = ITS_PART, **options: Any,
) -> Layer:  # fmt: skip
    """Make a composition around one part, whose cache, and by default whose params, are its own."""
    own = {
        "gather": gather, "init": partial(init, arrange=arrange), "advance": advance,
        "needs_dx": needs_dx,
    }  # fmt: skip
    return composition(label, (part,), there, back, arrange=arrange, **{**own, **options})
