"""Names for a wrong argument, and what to write instead.

`MENDS` lists the most common mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, ismodule, signature
from typing import Any, Final, NamedTuple, TypeGuard

from torch import Tensor, nn
from torch.optim import Optimizer as TorchOptimizer

from lincoln_fn.record import brief

# What the library's constructors return.
_MADE: Final = ("Layer", "Loss", "Optimizer", "Transform", "Initializer", "Schedule", "Metric")
# What `train` accepts as a state.
STATE: Final = "a TrainState, or a state of your own with an attribute step"
A_TUPLE: Final = "write a tuple in place of the list"
# The length at which an error cuts a repr.
_LONGEST: Final = 80


def shown(given: object) -> str:
    """Describe a value in a few words."""
    kind = type(given)
    if isinstance(given, type):
        return f"the class {given.__name__}"
    if ismodule(given):
        return f"the module {given.__name__}"
    if isinstance(given, nn.Module | TorchOptimizer):
        return f"a {kind.__name__} of torch"
    if _is_function(given):
        what = "constructor" if is_constructor(given) else "function"
        return f"the {what} {getattr(given, '__name__', given)}"
    if kind.__name__ in _MADE:
        return f"the {kind.__name__} {given!r}"
    is_short = isinstance(given, Tensor | tuple | str | int | float | None)
    if not (is_short or kind.__module__.startswith("lincoln_fn")):
        return kind.__name__
    text = " ".join(brief(given).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def no_tuple(given: object) -> str:
    """Describe a value that should have been a tuple; for a list, add what to write."""
    return f"{brief(given)}; {A_TUPLE}" if isinstance(given, list) else brief(given)


def _is_function(given: object) -> bool:
    is_own = type(given).__module__.startswith("lincoln_fn")
    return callable(given) and not is_own and not isinstance(given, type | nn.Module)


def is_function(given: object) -> TypeGuard[Callable[..., Any]]:  # Any: of any function
    """Return whether an object can be called. A `Layer` cannot: its call is an error."""
    return callable(given) and type(given).__name__ != "Layer"


def is_constructor(given: object) -> bool:
    """Return whether an object is a constructor of this library's, such as `lf.relu`."""
    returned = getattr(given, "__annotations__", {}).get("return")
    module = getattr(given, "__module__", "") or ""
    return returned in _MADE and module.startswith("lincoln_fn")


def _call(given: object) -> str:
    """Write the call of a constructor: "relu()", or "dense(...)" if it needs an argument."""
    assert callable(given)
    needs = any(
        parameter.default is Parameter.empty and parameter.kind is not Parameter.VAR_POSITIONAL
        for parameter in signature(given).parameters.values()
    )
    return f"{getattr(given, '__name__', given)}({'...' if needs else ''})"


def _is_shape(given: object) -> bool:
    return isinstance(given, tuple) and all(type(size) is int for size in given) and bool(given)


def _of_torch(*bases: type) -> Callable[[object], bool]:
    def matches(given: object) -> bool:
        return isinstance(given, bases) or (isinstance(given, type) and issubclass(given, bases))

    return matches


def _is(*kinds: type) -> Callable[[object], bool]:
    return lambda given: isinstance(given, kinds) and not isinstance(given, bool)


def _has_class_name(*names: str) -> Callable[[object], bool]:
    return lambda given: type(given).__name__ in names


def _has_layers(given: object) -> bool:
    return isinstance(given, list | tuple) and any(map(_has_class_name("Layer"), given))


def _always(given: object) -> bool:
    return True


class Mend(NamedTuple):
    """A correction: what to write in place of an object."""

    kind: str  # what is expected where this correction helps, in the error's words
    matches: Callable[[object], bool]  # whether the object is one of those
    text: str  # what to write; {} is replaced by the object


MENDS: Final[Sequence[Mend]] = (
    Mend("Layer", _of_torch(nn.Module), "make a layer of the module by lf.interop.from_torch"),
    Mend("Layer", _has_layers, "write lf.serial(*layers)"),
    Mend("Layer", _has_class_name("Loss"), "check_loss and make_step take a loss"),
    Mend("Layer", _is_function, "make a layer of a function by lf.interop.from_function"),
    Mend("Loss", _of_torch(nn.Module), "see lf.losses"),
    Mend("Loss", _is_function, "see lf.losses"),
    Mend("Loss", _has_class_name("Layer"), "check_layer and make_step take a layer"),
    Mend("Optimizer", _of_torch(TorchOptimizer), "see lf.optim"),
    Mend("Optimizer", _has_class_name("Transform"), "write lf.optim.chain({}, optimizer)"),
    Mend("Optimizer", _has_class_name("Schedule"), "write lf.optim.sgd({})"),
    Mend("a Transform or an Optimizer", _is(list, tuple), "write lf.optim.chain(*parts)"),
    Mend("Initializer", _is(float, int), "write lf.initializers.constant({})"),
    Mend("Initializer", _is_function, "see lf.initializers"),
    Mend("Key", _is(int), "write lf.Key({})"),
    Mend("Key", _has_class_name("Generator", "type"), "write lf.Key(seed)"),
    Mend("tensor", _is_shape, "write torch.empty{}"),
    Mend(
        "tensor", _has_class_name("ndarray", "DataFrame", "Series"), "convert it by torch.as_tensor"
    ),
    Mend("tensor", _is(list, float, int), "convert it by torch.tensor"),
    Mend("params", _has_class_name("TrainState"), "give its state.params"),
    Mend("params", _is(nn.Module), "lf.interop.from_torch makes params of it"),
    Mend("params", _is(dict), "lf.interop.from_state_dict makes params of torch's"),
    Mend("params", _is(Tensor), "the order is (params, x)"),
    Mend("a function of a prediction and its target", _always, "see lf.metrics"),
    Mend(
        "what make_step returns",
        _has_class_name("Layer"),
        "lf.make_step(net, loss, optimizer) makes it",
    ),
    Mend("TrainState", _always, "lf.init_state(net, optimizer, key, x) makes one"),
    Mend(STATE, _always, "lf.init_state(net, optimizer, key, x) makes a TrainState"),
    Mend("torch.nn.Module", _is(type), "make an object of the class"),
    Mend("torch.nn.Module", _is(dict), "lf.interop.from_state_dict takes tensors by name"),
    Mend("torch.nn.Module", _is_function, "make a layer of it by lf.interop.from_function"),
)


def mend_of(given: object, kind: str) -> str:
    """Find what to write in place of an object, or "" if nothing is known."""
    if is_constructor(given):
        return f"write {_call(given)}"
    texts = (mend.text for mend in MENDS if mend.kind == kind and mend.matches(given))
    return next(texts, "").replace("{}", repr(given))
