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
        i = int(found[1])
        got, expected = (tuple(map(int, re.findall(r"\d+", text))) for text in found.groups()[1:])
        name = names[i] if i < len(names) else f"input {i}"
        return f"{gradient_of(name)} {shape_told(got, expected)}{line_of_value(backward, i)}"
    return f"backward raised {type(error).__name__}: {told}"


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
    lines = _lines(backward)
    returned = [(node.value, line) for node, line in lines if isinstance(node, ast.Return)]
    value, found = returned[-1] if returned else (None, "")
    if isinstance(value, ast.Tuple) and i < len(value.elts):
        value = value.elts[i]
    name = value.id if isinstance(value, ast.Name) else None
    return next((line for node, line in reversed(lines) if name in _assigned(node)), found)


def line_of_write(backward: Backward) -> str:
    """Find the first line of backward that changes a tensor in place; "" if none is seen."""
    for node, line in _lines(backward):
        is_call = isinstance(node, ast.Expr) and re.search(r"[a-z]_\(", ast.unparse(node))
        is_part = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
        if isinstance(node, ast.AugAssign) or is_call or is_part:
            return line
    return ""


def _lines(function: Backward) -> list[tuple[ast.stmt, str]]:
    """List the statements of a function of Python, and where they are; [] if it has no source."""
    try:
        lines, first = inspect.getsourcelines(function)  # type: ignore[arg-type]  # None has none
        body = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, SyntaxError, TypeError, IndexError):
        return []
    # The source of a lambda is the statement that it stands in.
    is_it = getattr(body, "name", "") == getattr(function, "__name__", None)
    nodes = [node for node in ast.walk(body) if isinstance(node, ast.stmt)] if is_it else []
    nodes.sort(key=lambda node: node.lineno)
    where = " (line {}: {})"
    return [(n, where.format(first + n.lineno - 1, lines[n.lineno - 1].strip())) for n in nodes]


def _assigned(node: ast.stmt) -> set[str]:
    """List the names that a statement assigns to, in whole or in part."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    parts = [each for target in targets if target for each in ast.walk(target)]
    return {each.id for each in parts if isinstance(each, ast.Name)}
