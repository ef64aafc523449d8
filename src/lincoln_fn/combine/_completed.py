"""The context of a transformer block: masks that may be left out."""

from __future__ import annotations

from lincoln_fn.layer import Arrays, Layer, Params
from lincoln_fn.record import brief, record, static
from lincoln_fn.shapes import LayerError, check_cache, check_params


@record
class Completed:
    """How many entries x had; 0 if it was no tuple."""

    entries: int = static()


def completed(least: int, most: int) -> Layer:
    """Make a layer that puts None for the masks that x lacks; it has all of them or none."""
    name = "context()"
    forms = {2: "a sequence or (sequence, mask)", 4: "(target, memory) or with two masks behind"}

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Completed]:
        check_params(name, params, None)
        given = x if isinstance(x, tuple) else (x,)
        if len(given) not in (least, most):
            raise LayerError(name, f"expected x to be {forms[most]}, got {brief(x)}")
        missing = (None,) * (most - len(given))
        return (*given, *missing), Completed(len(x) if isinstance(x, tuple) else 0)

    def backward(params: Params, cache: Completed, g: Arrays) -> tuple[Arrays, Params]:
        check_cache(name, cache, Completed)
        return g[: cache.entries] if cache.entries else g[0], ()

    return Layer(name, forward, backward)
