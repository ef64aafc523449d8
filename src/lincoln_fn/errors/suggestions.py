"""What to write instead of a wrong argument.

`MENDS` lists the most common mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from typing import Final, NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer as TorchOptimizer

from lincoln_fn.errors.descriptions import is_constructor, is_plain_function

# What `train` accepts as a state.
STATE: Final = "a TrainState, or a state of your own with an attribute step"


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
    Mend("Layer", is_plain_function, "make a layer of a function by lf.interop.from_function"),
    Mend("Loss", _of_torch(nn.Module), "see lf.losses"),
    Mend("Loss", is_plain_function, "see lf.losses"),
    Mend("Loss", _has_class_name("Layer"), "check_layer and make_step take a layer"),
    Mend("Optimizer", _of_torch(TorchOptimizer), "see lf.optim"),
    Mend("Optimizer", _has_class_name("Transform"), "write lf.optim.chain({}, optimizer)"),
    Mend("Optimizer", _has_class_name("Schedule"), "write lf.optim.sgd({})"),
    Mend("a Transform or an Optimizer", _is(list, tuple), "write lf.optim.chain(*parts)"),
    Mend("Initializer", _is(float, int), "write lf.initializers.constant({})"),
    Mend("Initializer", is_plain_function, "see lf.initializers"),
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
    Mend("torch.nn.Module", is_plain_function, "make a layer of it by lf.interop.from_function"),
)


def mend_of(given: object, kind: str) -> str:
    """Find what to write in place of an object, or "" if nothing is known."""
    if is_constructor(given):
        return f"write {_call(given)}"
    texts = (mend.text for mend in MENDS if mend.kind == kind and mend.matches(given))
    return next(texts, "").replace("{}", repr(given))
