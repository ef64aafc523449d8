"""The functions that optimizers had before they were made of rules, for steps pickled then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs

from lincoln_fn.optim import leafwise

# Any: functions of a state and of hyperparameters, as they were pickled.
Function = Callable[..., Any]
_FUNCTIONS: Final[dict[str, Function]] = {
    "init": leafwise.init,
    "update": leafwise.update,
    "adjoint": leafwise.adjoint,
}


def keep_functions(package: Mapping[str, Any]) -> None:
    """Let pickle find `optim.adam.update` and its like."""
    for name, constructor in package.items():
        module = sys.modules.get(f"{__package__}.{name}")
        if hasattr(module, "rules"):
            vars(module)["__getattr__"] = partial(_find, constructor)


def _find(constructor: Function, name: str) -> Function:
    if name not in _FUNCTIONS:
        raise AttributeError(f"{constructor.__name__} has no {name!r}")
    return partial(_call, _FUNCTIONS[name], constructor().update.args[0])


def _call(
    function: Function,
    kind: leafwise.Leafwise,
    *trees: Any,
    decoupled: bool = False,
    **options: Any,
) -> Any:
    kind = attrs.evolve(kind, decoupled=kind.decoupled or decoupled)
    return function(kind, *trees, **options)
