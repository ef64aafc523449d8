"""Run a student's functions of numpy on exact numbers, and follow what their lines assign.

This runs in the page "Prove a gradient", beside the exact numbers of `lincoln_fn.testing.exact`. It
needs numpy alone. A forward returns (out, cache) and a backward the gradients of the arrays; or one
function returns (loss, gradients).
"""

from __future__ import annotations
import __future__ as future

import ast
import copy
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

from lincoln_fn.testing.exact.arrays import ExactArray, numpy_for
from lincoln_fn.testing.exact.field import Field, MissingError, P
from lincoln_fn.testing.exact.numbers import Numbers, Table, constant

FILE = "<yours>"


class Example:
    """A student's functions, and what they are called with."""

    def __init__(self, source: str, arguments: str) -> None:
        flags = future.annotations.compiler_flag
        self.code = compile(source, FILE, "exec", flags, dont_inherit=True)
        tree = ast.parse(source)
        names = [each.name for each in tree.body if isinstance(each, ast.FunctionDef)]
        back = [name for name in names if "back" in name or "grad" in name]
        ahead = [name for name in names if name not in back]
        named = [name for name in ahead if "forward" in name or "loss" in name]
        if not ahead:
            raise ValueError("expected a function, and one whose name has `backward` in it")
        self.forward, self.backward = (named or ahead)[0], back[0] if back else ""
        # The lines that compute what they return.
        self.returns = {
            each.lineno for each in ast.walk(tree)
            if isinstance(each, ast.Return)
            and any(isinstance(part, (ast.BinOp, ast.Call)) for part in ast.walk(each))
        }  # fmt: skip
        random = np.random.default_rng(0)
        self.arrays: dict[str, Any] = {}
        # Of these, those that get no gradient.
        self.held: set[str] = set()
        self.options: dict[str, Any] = {}
        for name, value in eval(f"dict({arguments})", {"np": np}).items():
            if isinstance(value, tuple):
                self.arrays[name] = random.standard_normal(value)
            else:
                self.options[name] = np.array(value) if isinstance(value, list) else value

    def run(
        self, numpy: Any, arrays: dict[str, Any], g: Callable[[Any], Any], trace: Any = None
    ) -> tuple[list[Any], list[Any], dict[str, Any]]:
        """Run the functions, and return the outputs, their cotangents and, by array, gradients."""
        np.random.seed(0)  # noqa: NPY002  # as students draw
        scope: dict[str, Any] = {"np": numpy, "__name__": "yours"}
        exec(self.code, scope)
        scope.update({name: numpy for name, value in scope.items() if value is np})
        before = sys.gettrace()
        sys.settrace(trace.ahead if trace and trace.is_of_forward else None)
        try:
            options = {
                name: numpy.array(value) if isinstance(value, np.ndarray) else copy.deepcopy(value)
                for name, value in self.options.items()
            }
            returned = scope[self.forward](**arrays, **options)
            if not isinstance(returned, tuple):
                raise ValueError(f"expected {self.forward} to return a tuple, such as (out, cache)")
            if not self.backward:
                return [returned[0]], [1.0], _gradients(returned[1:], arrays)
            *outputs, cache = returned
            cotangents = [g(each) for each in outputs]
            sys.settrace(trace and trace.back)
            found = scope[self.backward](*cotangents, cache)
        finally:
            sys.settrace(before)
        found = found if isinstance(found, (tuple, list, dict)) else (found,)
        return outputs, cotangents, _gradients(found, arrays)

    def run_floats(
        self, arrays: dict[str, Any], seed: int
    ) -> tuple[list[Any], list[Any], dict[str, Any]]:
        """Run the functions on copies of arrays, with cotangents of a normal distribution."""
        draws = np.random.default_rng(seed)
        copies = {name: np.array(value) for name, value in arrays.items()}
        return self.run(np, copies, lambda out: draws.standard_normal(np.shape(out)))


def _gradients(found: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    if isinstance(found, tuple) and len(found) == 1 and isinstance(found[0], dict):
        found = found[0]
    if isinstance(found, dict):
        named = {name: found.get(f"d{name}", found.get(name)) for name in arrays}
        return {name: gradient for name, gradient in named.items() if gradient is not None}
    if len(found) > len(arrays):
        raise ValueError(
            f"expected {len(arrays)} gradients, of {', '.join(arrays)}; got {len(found)}"
        )
    return dict(zip(arrays, found, strict=False))


class Trial:
    """One run on exact numbers.

    Args:
        seed: of the draw.
        free: how the derivative of a root is written, as `Field` has it.
        only: the array that has a tangent; None if all have; "" if none has.
        trace: follows the locals.
    """

    def __init__(
        self, example: Example, seed: int, free: bool, only: str | None = None, trace: Any = None
    ) -> None:
        self.field = field = Field(seed, free=free)
        self.table, random = Table(field), np.random.default_rng(seed)
        arrays, self.tangents = {}, {}
        for name, shadow in example.arrays.items():
            moves = only in (None, name) and name not in example.held
            self.tangents[name] = field.direction(shadow.shape) * moves
            arrays[name] = self.array(shadow, self.tangents[name])
        if trace is not None:
            trace.table = self.table

        def g(y: Any) -> ExactArray:
            shadow = random.standard_normal(np.shape(y))
            return self.array(shadow, np.zeros(np.shape(y), field.dtype))

        with np.errstate(all="ignore"):
            self.y, self.g, self.given = example.run(numpy_for(self.table), arrays, g, trace)

    def array(self, shadow: Any, tangent: Any) -> ExactArray:
        """Draw an array of numbers."""
        numbers = Numbers(self.field, shadow, self.field.draw(shadow), tangent)
        return ExactArray(self.table, self.table.write(numbers))

    def slope(self) -> int:
        """Compute <g, y'>."""
        pairs = zip(self.g, self.y, strict=True)
        return sum(self.product(g, self.numbers(y).tangent) for g, y in pairs) % P

    def product(self, given: Any, tangent: Any) -> int:
        """Compute <given, tangent>."""
        return int(np.sum(self.numbers(given).value * tangent % P)) % P

    def numbers(self, given: Any) -> Numbers:
        """Return the numbers of what the code computed."""
        is_exact = isinstance(given, ExactArray)
        numbers: Numbers = given.numbers if is_exact else constant(self.field, given)
        if not np.isfinite(numbers.shadow).all():
            raise MissingError("a number is not finite")
        return numbers

    def claimed(self) -> int:
        """Compute the sum of <gradient, tangent>."""
        return sum(self.product(each, self.tangents[name]) for name, each in self.given.items()) % P


class Trace:
    """The locals that the lines of a function assign, and the tangent that one of them gets.

    Args:
        at: the local of forward that gets a tangent: its name, and the number of its last change.
    """

    def __init__(self, at: tuple[str, int] | None = None) -> None:
        self.at = at
        self.is_of_forward = at is None or at[1] > 0
        self.table: Any = None
        self.tangent: Any = None
        # In the order of their last changes: the lines that assigned it, and the last value.
        self.forward: dict[str, tuple[list[int], Any]] = {}
        self.backward: dict[str, tuple[list[int], Any]] = {}
        self.arguments: set[str] = set()
        self.returned = 0

    def ahead(self, frame: FrameType, event: str, arg: Any) -> Any:
        """Follow forward."""
        return self._follow(frame, self.forward, True)

    def back(self, frame: FrameType, event: str, arg: Any) -> Any:
        """Follow backward."""
        return self._follow(frame, self.backward, False)

    def _follow(self, frame: FrameType, found: Any, is_forward: bool) -> Any:
        if frame.f_code.co_filename != FILE:
            return None
        if not is_forward:
            self.arguments |= set(frame.f_locals)
        known = {name: _state(value) for name, value in frame.f_locals.items()}
        line = frame.f_lineno

        def inside(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal line
            # Reading the locals again would undo what is put there.
            names = frame.f_locals
            for name, value in list(names.items()):
                state = _state(value)
                if state is None or state == known.get(name):
                    continue
                lines = found.pop(name, ([], None))[0]
                lines.append(line)
                if is_forward and self.at == (name, len(lines)):
                    names[name] = value = self._moved(value)
                known[name], found[name] = _state(value), (lines, value)
            if event == "return" and not is_forward:
                self.returned = frame.f_lineno
            line = frame.f_lineno
            return inside

        return inside

    def _moved(self, value: ExactArray) -> ExactArray:
        numbers = value.numbers
        self.tangent = numbers.tangent = self.table.field.direction(value.shape)
        return ExactArray(self.table, self.table.write(numbers))


def _state(value: Any) -> Any:
    return (id(value), value.rows.tobytes()) if isinstance(value, ExactArray) else None
