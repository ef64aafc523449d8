"""A course, read from its table."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from lincoln_fn.core import LayerError
from lincoln_fn.grading.courses.exercise import Exercise

HERE = Path(__file__).parent


@attrs.frozen(eq=False)
class Course:
    """A course's exercises, and the modules that its files import."""

    name: str
    title: str
    exercises: tuple[Exercise, ...]
    # For each module that files of the course import, code that stands for it.
    modules: Mapping[str, str] = attrs.field(factory=dict)


def names() -> list[str]:
    """List the courses that there are."""
    return sorted(path.stem for path in HERE.glob("*.ini"))


def read(name: str) -> Course:
    """Read a course by its name, or by the path of its table."""
    path = Path(name) if name.endswith(".ini") else HERE / f"{name}.ini"
    if not path.is_file():
        known = ", ".join(names())
        raise LayerError(
            "grade", f"expected a course, one of {known}, or a file *.ini; got {name!r}"
        )
    parser = ConfigParser(interpolation=None, default_section="")
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # names keep their case
    parser.read_string(path.read_text())
    sections = {name: dict(parser[name]) for name in parser.sections()}
    about, code = sections.pop("course"), sections.pop("modules", {})
    # Lines of code begin with a bar, which keeps their indentation.
    modules = {name: re.sub(r"^\|", "", text.strip(), flags=re.M) for name, text in code.items()}
    keeps_objects = parser.getboolean("course", "objects", fallback=False)
    exercises = (_exercise(name, fields, keeps_objects) for name, fields in sections.items())
    return Course(path.stem, about.get("title", path.stem), tuple(exercises), modules)


def _exercise(name: str, fields: dict[str, str], keeps_objects: bool) -> Exercise:
    lines = fields.pop("cases").strip().splitlines()
    draw = np.random.default_rng(len(name))
    cases = tuple(_case(line, draw) for line in lines)
    return Exercise(name, cases=cases, keeps_objects=keeps_objects, **fields)


def _case(line: str, draw: np.random.Generator) -> dict[str, Any]:  # Any: arguments of any kind
    """Draw the arrays of a line such as `x=(4, 2, 3), y=labels(5, 4), reg=0.1`."""
    call = ast.parse(f"case({line})", mode="eval").body
    assert isinstance(call, ast.Call)
    return {str(word.arg): _value(word.value, draw) for word in call.keywords}


def _value(node: ast.expr, draw: np.random.Generator) -> Any:
    """Draw an array, or read any other argument."""
    if isinstance(node, ast.Tuple):
        return draw.normal(size=ast.literal_eval(node))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _DRAWS[node.func.id](draw, *map(ast.literal_eval, node.args))
    return ast.literal_eval(node)


_DRAWS = {
    "below": lambda draw, n, *shape: draw.integers(0, n, shape),
    "positive": lambda draw, *shape: draw.uniform(0.5, 1.5, shape),
    "mask": lambda draw, *shape: draw.random(shape) < 0.7,
    "one_hot": lambda draw, n, m: np.eye(m)[draw.integers(0, m, n)],
    "scaled": lambda draw, scale, *shape: scale * draw.normal(size=shape),
}  # fmt: skip
