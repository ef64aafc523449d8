"""What a layer's functions are: its own or a default, and from which file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from lincoln_fn.core.defaults import SOURCES, derived, no_params
from lincoln_fn.core.layer import Layer
from lincoln_fn.core.signatures import unbound


def has_no_params(layer: Layer) -> bool:
    """Return whether a layer's `init` is the default, which makes no params."""
    return unbound(layer.init) is no_params


def file_of_forward(layer: Layer) -> ModuleType | None:
    """Return the module of a layer's `forward`, also where its backward is another."""
    return sys.modules.get(getattr(unbound(layer.forward), "__module__", ""))


def is_derived(layer: Layer, name: str) -> bool:
    """Return whether a layer's function is the default, which calls another of its functions."""
    function, default = getattr(layer, name), (derived, name, getattr(layer, SOURCES[name][0]))
    return isinstance(function, partial) and (function.func, *function.args) == default


def is_ours(function: Callable[..., Any]) -> bool:  # Any: of any function
    """Return whether a function is the library's, and not a user's own."""
    return str(getattr(unbound(function), "__module__", "")).startswith("lincoln_fn.")
