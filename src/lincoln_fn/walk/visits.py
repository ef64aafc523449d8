"""The visitors of the protocol's own walks: `forward`, `backward` and the others, at a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import attrs
import torch

from lincoln_fn.core import tree
from lincoln_fn.core.layer import Arrays, Cache, Layer, Params
from lincoln_fn.walk.parts import to_tuple
from lincoln_fn.walk.wants import DPARAMS, wants_of_part

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


@attrs.frozen(eq=False)
class Visit:
    """Shared by the visitors of the protocol's own walks."""

    label: str
    parts: tuple[Layer, ...]

    def advance(self, i: int, params: Params, record: Record) -> Params:
        """Advance the state of part i."""
        return self.parts[i].advance(params, record)


class ForwardVisit(Visit):
    """Compute y and the cache of part i."""

    def __call__(self, i: int, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        """Visit part i."""
        return self.parts[i].forward(params, x)


class PredictVisit(Visit):
    """Compute y of part i, without a cache."""

    def __call__(self, i: int, params: Params, x: Arrays) -> tuple[Arrays, None]:
        """Visit part i."""
        return self.parts[i].predict(params, x), None

    def advance(self, i: int, params: Params, record: Record) -> Params:
        """Leave the state of part i as it is."""
        return params


class BackwardVisit(Visit):
    """Compute dx and dparams of part i."""

    def __call__(
        self, i: int, params: Params, cache: Cache, g: Arrays, train: bool = True
    ) -> tuple[Arrays, Params]:
        """Visit part i."""
        part = self.parts[i]
        if train:
            return part.backward(params, _for(part, cache), g)
        return part.input_grad(params, _for(part, cache), g), None

    def add(self, record: Params, later: tuple[Params, ...]) -> tuple[Params, ...]:
        """Add up the gradients of all uses of a part."""
        return sum_uses(record, later)


class InputGradVisit(Visit):
    """Compute dx of part i."""

    def __call__(
        self, i: int, params: Params, cache: Cache, g: Arrays, train: bool = True
    ) -> tuple[Arrays, None]:
        """Visit part i."""
        part = self.parts[i]
        return part.input_grad(params, _for(part, cache), g), None

    def add(self, record: None, later: tuple[None, ...]) -> tuple[None, ...]:
        """Keep nothing."""
        return ()


@attrs.frozen(eq=False)
class GradsVisit(BackwardVisit):
    """Compute dparams of part i, and dx if a trained part needs it."""

    needs_dx: Callable[[int, Params], bool]
    params: Params  # of the composition

    def __call__(
        self, i: int, params: Params, cache: Cache, g: Arrays, train: bool = True
    ) -> tuple[Arrays, Params]:
        """Visit part i."""
        wants = wants_of_part(self.needs_dx, i, self.params, params, DPARAMS, train)
        if wants.dx:
            return super().__call__(i, params, cache, g, train)
        if wants.dparams:
            part = self.parts[i]
            return None, part.grads(params, _for(part, cache), g)
        return None, params


def _for(part: Layer, cache: Cache) -> Cache:
    """Return the cache in the form that a part takes: only a composition takes an owned one."""
    return to_tuple(cache) if part.composition is None else cache
