"""Code that leaves float64 is checked in float64 all the same, and told so.

The checks need all digits of float64. Code may convert to float32, or make its own float32 tensors
by `torch.zeros(...)`. `Doubled` runs such code in float64 and remembers what it changed, so that
its mathematics is checked, and a remark says what would have lost the digits.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import optree
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lincoln_fn.core import Layer, tree, unchanged
from lincoln_fn.testing.diagnosis import short

LOW = (torch.float32, torch.bfloat16, torch.float16)
FUNCTIONS = ("forward", "backward", "grads", "input_grad", "predict", "advance")
# Functions that change their first argument, which stays the same tensor.
_CHANGES = re.compile(r"__setitem__|__i(add|sub|mul|truediv|pow)__|(?!__).*_")
_NAMED = {"float": torch.float32, "bfloat16": torch.bfloat16, "half": torch.float16}


class Doubled(TorchFunctionMode):
    """While it is active, what would be of lower precision is of float64."""

    # It is torch's default, too, which is put back at the end. `inside` makes a layer whose
    # functions run so.

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, None] = {}
        self._defaults: list[torch.dtype] = []

    def __enter__(self) -> Doubled:
        # torch.tensor(0.1) has the digits of float64 only if that is the default.
        self._defaults.append(torch.get_default_dtype())
        torch.set_default_dtype(torch.float64)
        super().__enter__()  # type: ignore[no-untyped-call]  # torch's
        return self

    def __exit__(self, *error: Any) -> None:  # Any: as Python has it
        super().__exit__(*error)  # type: ignore[no-untyped-call]  # torch's
        torch.set_default_dtype(self._defaults.pop())

    # Any: of every function of torch.
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _NAMED and isinstance(args[0], Tensor):
            self._note(name, _NAMED[name], args[0])
            return args[0].to(torch.float64, copy=True)
        # What is given numbers alone, as torch.ones(5), makes a tensor of its own.
        is_of_tensors = any(isinstance(argument, Tensor) for argument in args)
        if is_of_tensors and not kwargs and all(map(_is_plain, args)):
            return func(*args)
        given: Any = (args, kwargs or {})
        leaves: list[Any] = optree.tree_leaves(given)
        low = next((a for a in leaves if isinstance(a, torch.dtype) and a in LOW), None)
        mixed = None if low or _CHANGES.fullmatch(name) else _mixed_in(leaves)
        if mixed:
            told = f"{name.strip('_')}() mixes {short(mixed)} with float64: checked in float64"
            self._seen[told] = None
        if low or mixed:
            given = optree.tree_map(_raised, given, none_is_leaf=True)
        result = func(*given[0], **given[1])
        if low is not None:
            self._note(name, low, result)
            # A conversion to lower precision would have copied: code may change it in place.
            if isinstance(result, Tensor) and any(a is result for a in leaves):
                return result.clone()
        if isinstance(result, Tensor) and result.is_floating_point():
            if not any(map(_is_floating, leaves)):
                self._note(name, self._defaults[0], result)
            return result.double() if result.dtype in LOW else result
        return result

    def _note(self, name: str, dtype: torch.dtype, of: object) -> None:
        if isinstance(of, Tensor) and of.is_floating_point() and not _is_of_the_library():
            self._seen[f"{name}() makes {short(dtype)}: checked in float64"] = None

    def inside(self, layer: Layer) -> Layer:
        """Make a layer whose results are of float64, even if they come from numpy."""
        own = {name: getattr(layer, name) for name in FUNCTIONS}
        # Any: mypy takes each for every field
        changed: Any = {n: partial(self._run, n, f) for n, f in own.items() if f is not unchanged}
        return attrs.evolve(layer, **changed)

    # Any: of the protocol.
    def _run(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        with self:
            results = function(*arguments)
        for leaf in tree.leaves(results):
            if isinstance(leaf, Tensor) and leaf.dtype in LOW:
                told = f"{name} returns {short(leaf.dtype)}: fewer digits are seen"
                self._seen[told] = None
        return tree.map(_raised, results)

    def remarks(self) -> list[str]:
        """List what was done in lower precision, or outside of torch, in sentences."""
        return list(self._seen)


def _is_plain(argument: object) -> bool:
    """Return whether an argument leaves float64 as it is: so do most, and they need no search."""
    if isinstance(argument, Tensor):
        return argument.dtype is torch.float64
    return argument is None or isinstance(argument, int | float | slice)


def _is_floating(leaf: object) -> bool:
    """Return whether an argument gives a function's result its precision."""
    dtype: Any = getattr(leaf, "dtype", leaf)
    is_of_torch = isinstance(dtype, torch.dtype)
    return dtype.is_floating_point if is_of_torch else getattr(dtype, "kind", "") == "f"


def _raised(leaf: object) -> object:
    if isinstance(leaf, Tensor) and leaf.dtype in LOW:
        return leaf.double()
    return torch.float64 if isinstance(leaf, torch.dtype) and leaf in LOW else leaf


def _mixed_in(leaves: list[Any]) -> torch.dtype | None:  # Any: of any function of torch
    """Return the lower precision among arguments of float64, as that of a fixed kernel; or None."""
    kinds = [leaf.dtype for leaf in leaves if isinstance(leaf, Tensor)]
    return next((k for k in kinds if k in LOW), None) if torch.float64 in kinds else None


def _is_of_the_library() -> bool:
    """Return whether the library's random numbers made the call."""
    frame = sys._getframe(3)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(("torch", "optree")):
        frame = frame.f_back
    return bool(frame.f_globals.get("__name__", "").startswith("lincoln_fn.core.keys"))
