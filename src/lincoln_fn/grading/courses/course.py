"""A course, read from its table, and a student's file, loaded with stand-ins for its modules."""

from __future__ import annotations

import ast
import builtins
import copy
import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from contextlib import suppress
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

import attrs
import numpy as np

from lincoln_fn.core import unexpected
from lincoln_fn.grading.courses.exercise import Exercise
from lincoln_fn.grading.submission import Names, SourceOnly, import_sources_alone, run_file

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
        expected = f"a course, one of {known}, or a file *.ini"
        raise unexpected("grade", expected, repr(name))
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


# Names that numpy has removed, and courses of earlier years use.
_REMOVED = {
    "float": float, "int": int, "bool": bool, "object": object, "float_": np.float64,
    "product": np.prod, "cumproduct": np.cumprod, "in1d": np.isin, "NaN": np.nan, "Inf": np.inf,
}  # fmt: skip


def load(path: Path, modules: Mapping[str, str]) -> Names:
    """Run a file, and return its names. It changes the process: it belongs into one of its own."""
    _restore_numpy()
    # A folder from which a file imports by dots is a package, whether it says so or not.
    statements = ast.walk(ast.parse(path.read_bytes(), str(path)))
    dots = max((n.level for n in statements if isinstance(n, ast.ImportFrom)), default=0)
    root = path.parents[min(dots, len(path.parents) - 1)]
    while (root / "__init__.py").is_file():
        root = root.parent
    heads = {name.partition(".")[0] for name in modules}
    import_sources_alone([root, *(f for f in path.parents if f.name in heads)], _Guarded)
    sys.path[:0] = [str(root), str(path.parent)]
    own = ".".join(path.parent.relative_to(root).parts or (path.parent.name,))
    for name, code in modules.items():
        _stand_in(name, code, root, path)
    if root != path.parent:
        # Where another file of the package does not load, this one may by itself.
        with suppress(ImportError, SyntaxError):
            return vars(importlib.import_module(f"{own}.{path.stem}"))
    return run_file(path, _Guarded, own if own in sys.modules else "")


class _Missing:
    """Stands for what could not be imported, and raises the error where it is used."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> NoReturn:
        raise self._error

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise self._error


class _Guarded(SourceOnly):
    """Loads a module so that an import that fails and is not used costs nothing."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        module = ast.parse(self.get_data(path), path)
        module.body = [new for node in module.body for new in _guarded(node)]
        code: CodeType = compile(module, path, "exec")
        return code

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__missing__"] = _Missing
        super().exec_module(module)


def _guarded(node: ast.stmt) -> Iterator[ast.stmt]:
    of_future = getattr(node, "module", "") == "__future__"
    if of_future or not isinstance(node, ast.Import | ast.ImportFrom):
        yield node
        return
    for alias in node.names:
        one = copy.copy(node)
        one.names = [alias]
        name = alias.asname or alias.name.partition(".")[0]
        (guarded,) = ast.parse(
            f"try:\n    {ast.unparse(one)}\nexcept Exception as __error__:\n"
            f"    globals().setdefault({name!r}, __missing__(__error__))"
        ).body
        for each in ast.walk(guarded):
            ast.copy_location(each, node)
        yield guarded


def _stand_in(name: str, code: str, root: Path, path: Path) -> None:
    """Put a module in place of one that a student's folder lacks."""
    parts = name.split(".")
    # A folder that is no package may be named in imports all the same.
    places = [root, *(folder.parent for folder in path.parents if folder.name == parts[0])]
    own = (place.joinpath(*parts) for place in places)
    if any(f.with_suffix(".py").is_file() or (f / "__init__.py").is_file() for f in own):
        parts.pop()
    part = ""
    for n in range(1, len(parts) + 1):
        part = ".".join(parts[:n])
        if part not in sys.modules and not root.joinpath(*parts[:n], "__init__.py").is_file():
            sys.modules[part] = ModuleType(part)
            sys.modules[part].__path__ = [str(place.joinpath(*parts[:n])) for place in places]
    if part == name:
        exec(code, vars(sys.modules[name]))


def _restore_numpy() -> None:
    for name, value in _REMOVED.items():
        if name not in vars(np):
            setattr(np, name, value)
    if not hasattr(np.lib, "pad"):
        np.lib.pad = np.pad  # type: ignore[attr-defined]  # until numpy 2
    np.reshape = _reshape  # type: ignore[assignment]  # which took `newshape`
    builtins.xrange = range  # type: ignore[attr-defined]  # of Python 2


# Any: as numpy has it.
def _reshape(a: Any, shape: Any = None, order: Any = "C", *, newshape: Any = None) -> Any:
    return np.asarray(a).reshape(newshape if shape is None else shape, order=order)
