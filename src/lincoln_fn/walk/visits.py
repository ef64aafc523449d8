"""What a walk does at a part of a composition: a function.

    there   visit(part, path, params, x, wants) -> (y, record)
    back    visit(part, path, params, cache, g, wants) -> (dx, record)

The protocol's walks call the part's own function; those of `walks.py` go into compositions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import torch

from lincoln_fn.core import Arrays, Cache, Layer, Params, tree
from lincoln_fn.walk.arrangement import Record
from lincoln_fn.walk.init import recall


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

    Args:
        visit: as the module says.
        name: the part's function on the way there, as errors name it.
        advance: (part, params, record) -> params: advances the state of a part, between two uses of
            it. On the way back, record is the part's cache.
        skip: (part, path, params) -> the record of a part that nothing needs; None visits it.
        add: (record, later) -> records of a part that is used several times, by `VisitBack.add`.
        allows_loops: as the function `allows_loops` says.
    """

    visit: Callable[..., tuple[Arrays, Record]]
    name: str = "forward"
    advance: Callable[[Layer, Params, Record], Params] = _advance
    skip: Callable[[Layer, str, Params], Record] | None = None
    add: Callable[[Record, tuple[Record, ...]], tuple[Record, ...]] = keep
    allows_loops: bool = False


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
