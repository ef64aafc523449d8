"""What a value is, in a few words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import ismodule
from typing import Any, Final, TypeGuard

import torch
from torch import Tensor, nn
from torch.optim import Optimizer as TorchOptimizer

# What the library's constructors return.
_MADE: Final = ("Layer", "Loss", "Optimizer", "Transform", "Initializer", "Schedule", "Metric")
A_TUPLE: Final = "write a tuple in place of the list"
# The length at which an error cuts a repr.
_LONGEST: Final = 80


def format_briefly(value: object) -> str:
    """Describe a value briefly: tensors by dtype and shape, single numbers with their value."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        if value.ndim == 0:
            try:
                return f"{dtype} {value.item()}"
            except RuntimeError:  # on `meta`, and while a function is traced or mapped over
                pass
        return f"{dtype}{list(value.shape)}"
    if type(value) is list:
        return f"[{', '.join(format_briefly(item) for item in value)}]"
    if type(value) is tuple:
        inside = ", ".join(format_briefly(item) for item in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return repr(value)


def first_of(problems: Iterable[str], most: int = 5) -> list[str]:
    """List the first of some problems, and how many more there are."""
    shown = [*problems]
    rest = len(shown) - most
    return [*shown[:most], f"and {rest} more"] if rest > 0 else shown


def describe(given: object) -> str:
    """Describe a value in a few words."""
    kind = type(given)
    if isinstance(given, type):
        return f"the class {given.__name__}"
    if ismodule(given):
        return f"the module {given.__name__}"
    if isinstance(given, nn.Module | TorchOptimizer):
        return f"a {kind.__name__} of torch"
    if is_plain_function(given):
        what = "constructor" if is_constructor(given) else "function"
        return f"the {what} {getattr(given, '__name__', given)}"
    if kind.__name__ in _MADE:
        return f"the {kind.__name__} {given!r}"
    is_short = isinstance(given, Tensor | tuple | str | int | float | None)
    if not (is_short or kind.__module__.startswith("lincoln_fn")):
        return kind.__name__
    text = " ".join(format_briefly(given).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def shown(given: object) -> str:
    """Describe what was given in place of something else: a dtype, list or dict as it is."""
    is_whole = isinstance(given, torch.dtype | list | dict)
    return format_briefly(given) if is_whole else describe(given)


def describe_non_tuple(given: object) -> str:
    """Describe a value that should have been a tuple; for a list, add what to write."""
    return (
        f"{format_briefly(given)}; {A_TUPLE}" if isinstance(given, list) else format_briefly(given)
    )


def is_plain_function(given: object) -> bool:
    """Return whether an object is a function, and no class and nothing of this library's."""
    is_own = type(given).__module__.startswith("lincoln_fn")
    return callable(given) and not is_own and not isinstance(given, type | nn.Module)


def is_function(given: object) -> TypeGuard[Callable[..., Any]]:  # Any: of any function
    """Return whether an object can be called. A `Layer` or a `Loss` cannot: it is an error."""
    return callable(given) and type(given).__name__ not in ("Layer", "Loss")


def is_constructor(given: object) -> bool:
    """Return whether an object is a constructor of this library's, such as `lf.relu`."""
    returned = getattr(given, "__annotations__", {}).get("return")
    module = getattr(given, "__module__", "") or ""
    return returned in _MADE and module.startswith("lincoln_fn")
