"""Which line of a function of Python to look at."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable


def line_of_value(backward: Callable[..., object], i: int) -> str:
    """Find the line of a function that makes the i-th value that it returns."""
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


def line_of_write(backward: Callable[..., object]) -> str:
    """Find the first line of a function that changes a tensor in place."""
    for node in _body(backward):
        is_call = isinstance(node, ast.Expr) and re.search(r"[a-z]_\(", ast.unparse(node))
        is_part = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
        if isinstance(node, ast.AugAssign) or is_call or is_part:
            return _line(backward, node.lineno)
    return ""


def _body(function: Callable[..., object]) -> list[ast.stmt]:
    """List the statements of a function of Python; [] if its source is not there."""
    try:
        lines, _ = inspect.getsourcelines(function)
        body = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, SyntaxError, TypeError, IndexError):
        return []
    is_it = getattr(body, "name", "") == function.__name__
    found = [node for node in ast.walk(body) if isinstance(node, ast.stmt)] if is_it else []
    return sorted(found, key=lambda node: node.lineno)


def _line(function: Callable[..., object], line: int) -> str:
    lines, first = inspect.getsourcelines(function)
    return f"line {first + line - 1}: {lines[line - 1].strip()}"


def _assigns(node: ast.stmt, name: str) -> bool:
    """Return whether a statement assigns to a name."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    named = [each for target in targets if target for each in ast.walk(target)]
    return any(isinstance(each, ast.Name) and each.id == name for each in named)
