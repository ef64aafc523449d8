"""The constructors of single layers by name: the functions in `layers/` that return a `Layer`."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import isfunction
from typing import Final

from lincoln_fn import layers
from lincoln_fn.core import Layer


def _find() -> Iterator[Callable[..., Layer]]:
    for file in pkgutil.iter_modules(layers.__path__):
        if file.ispkg:
            continue
        home = import_module(f"{layers.__name__}.{file.name}")
        for name, value in vars(home).items():
            is_own = isfunction(value) and value.__module__ == home.__name__ and name[0] != "_"
            # A string, because each file begins with `from __future__ import annotations`.
            if is_own and value.__annotations__.get("return") == "Layer":
                yield value


class _Constructors:
    def __init__(self) -> None:
        vars(self).update({constructor.__name__: constructor for constructor in _find()})

    def __getattr__(self, name: str) -> Callable[..., Layer]:
        raise AttributeError(f"no file of layers/ has a constructor {name}")


ours: Final = _Constructors()
