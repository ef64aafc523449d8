"""What backward raised, and which line of it to look at."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from lincoln_fn.testing.diagnosis import GradientError

# The function of Python that computes the gradients of all inputs, if there is one.
Backward: TypeAlias = Callable[..., object] | None
_INVALID: Final = re.compile(
    r"an invalid gradient at index (\d+) - got \[(.*?)\] but expected shape .*? \[(.*?)\]"
)


def gradient_of(name: str) -> str:
    """Name the gradient of an input."""
    return f"d{name}" if name.isidentifier() else f"the gradient of {name}"


def raised(error: Exception, names: Sequence[str], backward: Backward) -> str:
    """Say what backward raised; of a gradient of another shape, which."""
    if isinstance(error, GradientError):
        return str(error)
    told = str(error).strip().partition("\n")[0].rstrip(".")
    if (found := _INVALID.search(told)) and backward is not None:
        i, got, expected = int(found[1]), *map(_shape, found.groups()[1:])
        name = names[i] if i < len(names) else f"input {i}"
        return f"{gradient_of(name)} {shape_told(got, expected)}{line_of_value(backward, i)}"
    return f"backward raised {type(error).__name__}: {told}"


def _shape(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def shape_told(got: Sequence[int], expected: Sequence[int]) -> str:
    """Say how a gradient's shape differs from that of its input."""
    got, expected = tuple(got), tuple(expected)
    shapes = f"shape {got}, expected {expected}"
    more = len(got) - len(expected)
    aligned = (*(1,) * more, *expected)
    over = [axis for axis, (a, b) in enumerate(zip(got, aligned, strict=False)) if a != b]
    if more >= 0 and over and all(aligned[axis] == 1 for axis in over):
        axes = ", ".join(map(str, over))
        kind = "axis" if len(over) == 1 else "axes"
        return f"is not summed over {kind} {axes}, which its input has not: {shapes}"
    for axis in range(len(expected)):
        if got == (*expected[:axis], *expected[axis + 1 :]):
            return f"is summed over axis {axis}, which it should keep: {shapes}"
    return f"is transposed: {shapes}" if sorted(got) == sorted(expected) else f"has {shapes}"


def line_of_value(backward: Backward, i: int) -> str:
    """Find the line that makes the i-th value that backward returns; "" if it has no source."""
    body = _body(backward)
    returned = [n.value for n in body if isinstance(n, ast.Return) and n.value is not None]
    if not returned:
        return ""
    value = max(returned, key=lambda value: value.lineno)
    if isinstance(value, ast.Tuple) and i < len(value.elts):
        value = value.elts[i]
    name = value.id if isinstance(value, ast.Name) else ""
    made = [node.lineno for node in body if name and _assigns(node, name)]
    return _line(backward, (made or [value.lineno])[-1])


def line_of_write(backward: Backward) -> str:
    """Find the first line of backward that changes a tensor in place; "" if none is seen."""
    for node in _body(backward):
        is_call = isinstance(node, ast.Expr) and re.search(r"[a-z]_\(", ast.unparse(node))
        is_part = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
        if isinstance(node, ast.AugAssign) or is_call or is_part:
            return _line(backward, node.lineno)
    return ""


def _body(function: Backward) -> list[ast.stmt]:
    """List the statements of a function of Python; [] if its source is not there."""
    if function is None:
        return []
    try:
        lines, _ = inspect.getsourcelines(function)
        body = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, SyntaxError, TypeError, IndexError):
        return []
    is_it = getattr(body, "name", "") == getattr(function, "__name__", None)
    found = [node for node in ast.walk(body) if isinstance(node, ast.stmt)] if is_it else []
    return sorted(found, key=lambda node: node.lineno)


def _line(function: Backward, line: int) -> str:
    assert function is not None  # which has no body
    lines, first = inspect.getsourcelines(function)
    return f" (line {first + line - 1}: {lines[line - 1].strip()})"


def _assigns(node: ast.stmt, name: str) -> bool:
    """Return whether a statement assigns to a name."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    named = [each for target in targets if target for each in ast.walk(target)]
    return any(isinstance(each, ast.Name) and each.id == name for each in named)
