"""The layers, each a module of pure functions.

from lincoln_fn.layers import dense
y, cache = dense.forward(params, x)
"""

from importlib import import_module
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """Import a layer's module by its name: every file of this folder is one."""
    try:
        return import_module(f"lincoln_fn.layers.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"lincoln_fn.layers has no module {name!r}") from error
