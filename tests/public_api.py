"""The public names and signatures: `python tests/public_api.py` writes them to public_api.txt.

A test compares the file with the code. So each change of what users call is a line of the diff.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import attrs

import lincoln_fn as lf

FILE = Path(__file__).with_name("public_api.txt")
HEAD = """\
# What users of lincoln_fn call: every public name with its signature.
# Written by `python tests/public_api.py`. CHANGELOG.md names each change of a line.
"""


def public_names(module: ModuleType) -> list[str]:
    """List the public names of a module: its `__all__`, else all without an underscore."""
    named = getattr(module, "__all__", None)
    if named is None:
        named = [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__
            or (inspect.ismodule(value) and value.__name__.startswith(f"{module.__name__}."))
        ]
    return sorted(name for name in named if not name.startswith("_"))


def lines() -> Iterator[str]:
    """Yield the lines of the file."""
    yield from of_module("lf", lf)
    for name in public_names(lf):
        module = getattr(lf, name)
        if inspect.ismodule(module):
            yield f"\n# lf.{name}"
            yield from of_module(f"lf.{name}", module)
    yield "\n# The functions of each layer's file"
    for path in sorted(Path(lf.layers.__path__[0]).glob("[a-z]*.py")):
        module = sys.modules[f"lincoln_fn.layers.{path.stem}"]
        for name in ("init", "forward", "backward", "predict", "input_grad", "grads", "advance"):
            if hasattr(module, name):
                yield from of_value(f"lf.layers.{path.stem}.{name}", getattr(module, name))


def of_module(path: str, module: ModuleType) -> Iterator[str]:
    """Yield a line for each public name of a module, and for each member of a class."""
    for name in public_names(module):
        value = getattr(module, name)
        if not inspect.ismodule(value):
            yield from of_value(f"{path}.{name}", value)


def of_value(path: str, value: object) -> Iterator[str]:
    """Yield the line of a function or a constant, and those of a class and its members."""
    if not callable(value) or not (inspect.isclass(value) or inspect.isroutine(value)):
        yield path
        return
    yield f"{path}{signature(value)}"
    is_shown = inspect.isclass(value) and value.__module__.startswith("lincoln_fn")
    if not is_shown or (path.count(".") > 1 and getattr(lf, value.__name__, None) is value):
        return  # members of `lf.keys.Key` are those of `lf.Key`
    fields = [field.name for field in attrs.fields(value)] if attrs.has(value) else []
    for name in sorted({*vars(value), *fields}):
        member = inspect.getattr_static(value, name, None)  # a field without a slot: None
        if name.startswith("_"):
            continue
        if isinstance(member, staticmethod | classmethod):
            yield f"{path}.{name}{signature(getattr(value, name))}"
        elif inspect.isfunction(member):
            yield f"{path}.{name}{signature(member)}"
        else:  # a property, a field or a constant
            yield f"{path}.{name}"


def signature(function: object) -> str:
    """Write a signature in one line, the same with every version of Python."""
    try:
        text = str(inspect.signature(function))  # type: ignore[arg-type]  # a callable
    except (TypeError, ValueError):
        return "(...)"
    text = re.sub(
        r"<(?:function|class|built-in function) '?([\w.<>]+?)'?(?: at 0x\w+)?>", r"\1", text
    )
    text = re.sub(r"<([\w.]+) object at 0x\w+>", r"\1", text)
    # Annotations are texts. Strings among the defaults keep their quotes.
    text = re.sub(r"ForwardRef\('(.*?)'\)", r"\1", text)
    return re.sub(r"((?:: |-> ))(['\"])(.*?)\2(?=[,)=]| =|$)", r"\1\3", text)


def text() -> str:
    """Return the whole file."""
    return f"{HEAD}\n" + "\n".join(lines()) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(FILE)
