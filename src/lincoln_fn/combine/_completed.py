"""The context of a transformer block, in which masks may be left out."""

from __future__ import annotations

from functools import partial
from typing import Final

from lincoln_fn.core.declaration import declare
from lincoln_fn.core.layer import Arrays, Layer, Params
from lincoln_fn.core.record import record, static
from lincoln_fn.errors.descriptions import describe_non_tuple
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.shapes import check_cache, check_params

NAME: Final = "context()"
# The forms of x, by the number of its entries with all masks.
FORMS: Final = {
    2: "a sequence or (sequence, mask)",
    4: "(target, memory) or (target, memory, mask, mask)",
}


@record
class Completed:
    """How many entries x had; 0 if it was not a tuple."""

    entries: int = static()


def _forward(params: Params, x: Arrays, *, least: int, most: int) -> tuple[Arrays, Completed]:
    """Insert None for the masks that x lacks."""
    check_params(NAME, params, None)
    given = x if isinstance(x, tuple) else (x,)
    if len(given) not in (least, most):
        raise LayerError(NAME, f"expected x to be {FORMS[most]}, got {describe_non_tuple(x)}")
    missing = (None,) * (most - len(given))
    return (*given, *missing), Completed(len(x) if isinstance(x, tuple) else 0)


declare(_forward, kind="moving")


def _backward(params: Params, cache: Completed, g: Arrays) -> tuple[Arrays, Params]:
    """Remove the masks that x lacked."""
    check_cache(NAME, cache, Completed)
    return g[: cache.entries] if cache.entries else g[0], ()


def complete(least: int, most: int) -> Layer:
    """Make a layer that inserts None for the masks that x lacks; x has all of them or none."""
    return Layer(NAME, partial(_forward, least=least, most=most), _backward)
