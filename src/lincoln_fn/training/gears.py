"""What makes training faster, where its room is there: fast functions, and recorded operations.

`training` asks for both rooms by name. Without them a step runs the formulas, call by call.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

from lincoln_fn.core import Layer
from lincoln_fn.optim import Optimizer

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


def _from_room(room: str, name: str, value: T, *args: object, **options: object) -> T:
    """Return what a function of a room makes of a value; the value itself without the room."""
    if find_spec(f"lincoln_fn.{room}") is None:
        return value
    made: T = getattr(import_module(f"lincoln_fn.{room}"), name)(value, *args, **options)
    return made


def faster(net: Layer, *, by_example: bool = False) -> Layer:
    """Return `lf.fast(net)`; with `by_example`, one that says what each example is to each part."""
    return _from_room("fastpath", "fast_by_example" if by_example else "fast", net)


def faster_optimizer(optimizer: Optimizer, *, donate: bool, exact: bool) -> Optimizer:
    """Return the optimizer, computed faster."""
    return _from_room("fastpath", "fast_optimizer", optimizer, donate=donate, exact=exact)


def recorded(function: Callable[P, R]) -> Callable[P, R]:
    """Return `lf.recorded(function)`."""
    return _from_room("recording", "recorded", function)


def recorded_step(run: Callable[P, R], name: str, donate: bool) -> Callable[P, R]:
    """Return the function that a step runs, recorded."""
    return _from_room("recording", "RecordedFunction", run, name, donate)
