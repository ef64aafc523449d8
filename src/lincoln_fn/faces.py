"""The face of a room: the names that others use, each loaded when it is first asked for (PEP 562).

A room's `__init__.pyi` lists these names as imports. Type checkers and editors read it, and so does
this file. So `import lincoln_fn` loads no room, and a room that nobody names costs nothing. A line
`from file import *` lists every public name that begins a line of the file. A face for other rooms,
`internal.pyi`, needs no `.py` beside it.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from contextlib import suppress
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pkgutil import get_data
from types import ModuleType


class Face(ModuleType):
    """A package that finds its names in its files."""

    __all__: list[str]
    _homes: dict[str, tuple[str, str]]  # a name's file, and what it is called there
    _explains: bool  # whether an error says where else a name that is missing may be

    def __getattr__(self, name: str) -> object:
        """Load a name from its file, or a file of the room."""
        if name in self._homes:
            home, its_name = self._homes[name]
            if home == self.__name__:
                return import_module(f"{home}.{its_name}")
            module = import_module(home)
            is_file = not hasattr(module, its_name)
            value = import_module(f"{home}.{its_name}") if is_file else getattr(module, its_name)
            super().__setattr__(name, value)
            return value
        is_public = name.isidentifier() and not name.startswith("_")
        if is_public and find_spec(f"{self.__name__}.{name}"):
            return import_module(f"{self.__name__}.{name}")
        if self._explains and is_public:
            raise import_module("lincoln_fn.vocabulary").missing_name(self.__name__, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute. Python sets each file that it loads: `serial` stays the function."""
        is_file = isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}"
        if not (is_file and self.is_from_elsewhere(name)):
            super().__setattr__(name, value)

    def is_from_elsewhere(self, name: str) -> bool:
        """Return whether a name is not simply a file of this package."""
        return self._homes.get(name, (self.__name__,))[0] != self.__name__

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return import_module, (self.__name__,)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *self.__all__})


class _InItsRoom(Loader):
    """Finds `lincoln_fn.data`, a module that stands in a room and is public in the root.

    And it makes the face of a `.pyi` that has no `.py` beside it.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return how to load the module, if the face of its package has it from elsewhere."""
        package, _, last = name.rpartition(".")
        owner = sys.modules.get(package)
        if not isinstance(owner, Face):
            return None
        is_elsewhere = owner.is_from_elsewhere(last)
        is_face = not is_elsewhere and _homes(package, last) is not None
        is_module = is_elsewhere and inspect.ismodule(getattr(owner, last))
        return ModuleSpec(name, self) if is_face or is_module else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module as it is in the place of a new one, or give that the names of its stub."""
        package, _, last = module.__name__.rpartition(".")
        owner = sys.modules[package]
        if isinstance(owner, Face) and owner.is_from_elsewhere(last):
            sys.modules[module.__name__] = getattr(owner, last)
        else:
            face(module.__name__)


def face(name: str, *, explains: bool = False) -> None:
    """Give a package the names of its `__init__.pyi`, or a module those of its `.pyi`."""
    module = sys.modules[name]
    package, _, stub = (f"{name}.__init__" if hasattr(module, "__path__") else name).rpartition(".")
    homes = _homes(package, stub) or {}
    vars(module).update(_homes=homes, _explains=explains, __all__=sorted(homes))
    module.__class__ = Face


def _homes(package: str, stub: str) -> dict[str, tuple[str, str]] | None:
    """Read the names of a stub in a package, with their homes; None if there is no such stub."""
    text = None
    with suppress(OSError):
        text = get_data(package, f"{stub}.pyi")
    if text is None:
        return None
    return {
        name.asname or name.name: (str(line.module), name.name)
        for line in ast.parse(text).body
        if isinstance(line, ast.ImportFrom)
        for name in (_defined_in(str(line.module)) if line.names[0].name == "*" else line.names)
    }


def _defined_in(module: str) -> list[ast.alias]:
    """List the public names that a module defines, without loading it."""
    package, _, file = module.rpartition(".")
    text = (get_data(package, f"{file}.py") or b"").decode()
    code = text.split('"""', 2)[-1]  # after the docstring, whose formulas may begin a line
    found = re.finditer(r"^(?:class |def )([A-Za-z]\w*)|^([A-Za-z]\w*)(?:: .*)? = ", code, re.M)
    return [ast.alias(match[1] or match[2]) for match in found]


sys.meta_path.append(_InItsRoom())
