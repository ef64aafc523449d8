"""The values that the lines of a function assign, as they run, and the same with some replaced."""

from __future__ import annotations

import ast
import linecache
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

import attrs
import numpy as np
import torch
from torch import Tensor

# Of a line that runs more often, these values and the last one are kept.
MOST = 64
# Of a function that is called more often, these calls are followed.
MOST_CALLS = 16
# What runs more lines than these is followed no further.
MOST_LINES = 20_000
_NOT_OURS = (
    str(Path(__file__).parent.parent), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"),
    "<frozen", "<attrs", "<__array",
)  # fmt: skip


@attrs.frozen
class Place:
    """A line of code, and what it assigns to or is given; "" for what a function returns."""

    code: CodeType
    line: int
    target: str

    @property
    def is_argument(self) -> bool:
        """Whether it is where a function is given an argument."""
        return self.line == self.code.co_firstlineno and bool(self.target)

    @property
    def source(self) -> str:
        """The line as it is written."""
        return linecache.getline(self.code.co_filename, self.line).strip()


# For a place, by the number of the time that it runs, what it assigns.
Replacements: TypeAlias = Mapping[Place, Mapping[int, Tensor]]
Targets: TypeAlias = dict[int, tuple[int, tuple[str, ...]]]
Seen: TypeAlias = Callable[[Place, FrameType, Any], None]


@attrs.frozen(eq=False)
class Trace:
    """What the lines of a function assigned: the first values, and the last one."""

    values: dict[Place, list[Tensor]]
    # How often each ran.
    counts: dict[Place, int]


@contextmanager
def assigned(seen: Seen) -> Iterator[None]:
    """Call a function for each value that code of a user is given, assigns or returns."""
    before, lines = sys.gettrace(), 0
    files: dict[str, Targets] = {}
    calls: dict[CodeType, int] = {}

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if code.co_filename.startswith(_NOT_OURS):
            return None
        # A helper that a loop calls again and again would take the lines of all others.
        calls[code] = calls.get(code, 0) + 1
        if calls[code] > MOST_CALLS:
            return None
        for name in code.co_varnames[: code.co_argcount]:
            seen(Place(code, code.co_firstlineno, name), frame, frame.f_locals.get(name))
        if code.co_filename not in files:
            files[code.co_filename] = _targets("".join(linecache.getlines(code.co_filename)))
        targets = files[code.co_filename]
        last: tuple[int, tuple[str, ...]] = (0, ())

        def in_frame(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal last, lines
            lines += 1
            if lines > MOST_LINES:
                sys.settrace(before)
                return None
            here = targets.get(frame.f_lineno, (frame.f_lineno, ()))
            if event in ("line", "return") and (here[0] != last[0] or event == "return"):
                # All are read before one is replaced: reading a local undoes what was put there.
                for target, value in [(target, _value(target, frame)) for target in last[1]]:
                    seen(Place(code, last[0], target), frame, value)
                last = here
            if event == "return":
                seen(Place(code, frame.f_lineno, ""), frame, arg)
            return in_frame

        return in_frame

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def trace_of(run: Callable[[], object], replaced: Replacements | None = None) -> Trace:
    """Run a function, and list what its lines assign, with some of it replaced."""
    values: dict[Place, list[Tensor]] = {}
    counts: dict[Place, int] = {}
    new = replaced or {}

    def seen(place: Place, frame: FrameType, value: Any) -> None:
        tensor = to_tensor(value)
        if tensor is None:
            return
        n = counts.get(place, 0)
        counts[place] = n + 1
        of_place = values.setdefault(place, [])
        of_place[MOST:] = []
        of_place.append(tensor)
        if place in new and n in new[place]:
            _put(place, frame, value, new[place][n])

    with assigned(seen):
        run()
    return Trace(values, counts)


# Any: of any kind.
def to_tensor(value: Any) -> Tensor | None:
    """Copy a floating array; None for all else."""
    if isinstance(value, tuple | list) and len(value) == 1:
        return to_tensor(value[0])
    if isinstance(value, Tensor):
        return value.detach().double().clone() if value.is_floating_point() else None
    if isinstance(value, np.ndarray | np.floating) and value.dtype.kind == "f":
        return torch.from_numpy(np.array(value, dtype=np.float64))
    return None


def _put(place: Place, frame: FrameType, old: Any, new: Tensor) -> None:
    old = old[0] if isinstance(old, tuple | list) else old
    value: Any = new.to(old) if isinstance(old, Tensor) else new.numpy()
    if place.target.isidentifier():
        frame.f_locals[place.target] = value.clone() if isinstance(old, Tensor) else value.copy()
    elif isinstance(old, Tensor):
        old.data.copy_(value)
    else:
        old[...] = value


def _value(target: str, frame: FrameType) -> Any:
    """Look up what was assigned to; of a part of an array, the array."""
    names = frame.f_locals
    if target.isidentifier():
        return names.get(target)
    try:
        return eval(target, frame.f_globals, dict(names))
    except Exception:  # the line may have failed
        return None


@cache
def _targets(text: str) -> Targets:
    """List, for each line of a file, the first line of its statement and what that assigns to."""
    found: Targets = {}
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError):
        return found
    for node in ast.walk(module):
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Expr | ast.Return):
            targets = []
        else:
            continue
        names = tuple(dict.fromkeys(name for target in targets for name in _names(target)))
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
            found[line] = (node.lineno, names)
    return found


def _names(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Tuple | ast.List):
        for part in target.elts:
            yield from _names(part)
    elif isinstance(target, ast.Starred):
        yield from _names(target.value)
    elif isinstance(target, ast.Subscript):
        base = target.value
        # grads["w"] is a value of its own, dx[i] is a part of dx.
        is_key = isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, str)
        yield from [ast.unparse(target)] if is_key else _names(base)
    elif isinstance(target, ast.Name | ast.Attribute):
        yield ast.unparse(target)
