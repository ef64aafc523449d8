"""What to write instead of a wrong argument.

`SUGGESTIONS` lists the most common mistakes.
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


class Suggestion(NamedTuple):
    """A correction: what to write in place of an object."""

    kind: str  # what is expected where this correction helps, in the error's words
    matches: Callable[[object], bool]  # whether the object is one of those
    text: str  # what to write; {} is replaced by the object


SUGGESTIONS: Final[Sequence[Suggestion]] = (
    Suggestion("Layer", _of_torch(nn.Module),
        "make a layer of the module by lf.interop.from_torch"),
    Suggestion("Layer", _has_layers, "write lf.serial(*layers)"),
    Suggestion("Layer", _has_class_name("Loss"), "check_loss and make_step take a loss"),
    Suggestion("Layer", is_plain_function,
        "make a layer of a function by lf.interop.from_function"),
    Suggestion("Loss", _of_torch(nn.Module), "see lf.losses"),
    Suggestion("Loss", is_plain_function, "see lf.losses"),
    Suggestion("Loss", _has_class_name("Layer"), "check_layer and make_step take a layer"),
    Suggestion("Optimizer", _of_torch(TorchOptimizer), "see lf.optim"),
    Suggestion("Optimizer", _has_class_name("Transform"), "write lf.optim.chain({}, optimizer)"),
    Suggestion("Optimizer", _has_class_name("Schedule"), "write lf.optim.sgd({})"),
    Suggestion("a Transform or an Optimizer", _is(list, tuple), "write lf.optim.chain(*parts)"),
    Suggestion("Initializer", _is(float, int), "write lf.initializers.constant({})"),
    Suggestion("Initializer", is_plain_function, "see lf.initializers"),
    Suggestion("Key", _is(int), "write lf.Key({})"),
    Suggestion("Key", _has_class_name("Generator", "type"), "write lf.Key(seed)"),
    Suggestion("tensor", _is_shape, "write torch.empty{}"),
    Suggestion("tensor", _has_class_name("ndarray"), "convert it by torch.as_tensor"),
    Suggestion("tensor", _has_class_name("DataFrame", "Series"),
        "convert it by torch.as_tensor(x.to_numpy('float32')), or labels by y.to_numpy()"),
    Suggestion("tensor", _is(list, float, int), "convert it by torch.tensor"),
    Suggestion("params", _has_class_name("TrainState"), "give its state.params"),
    Suggestion("params", _is(nn.Module), "lf.interop.from_torch makes params of it"),
    Suggestion("params", _is(dict), "lf.interop.from_state_dict makes params of torch's"),
    Suggestion("params", _is(Tensor), "the order is (params, x)"),
    Suggestion("a function of a prediction and its target", _always, "see lf.metrics"),
    Suggestion("what make_step returns", _has_class_name("Layer"),
        "lf.make_step(net, loss, optimizer) makes it"),
    Suggestion("TrainState", _always, "lf.init_state(net, optimizer, key, x) makes one"),
    Suggestion(STATE, _always, "lf.init_state(net, optimizer, key, x) makes a TrainState"),
    Suggestion("torch.nn.Module", _is(type), "make an object of the class"),
    Suggestion("torch.nn.Module", _is(dict), "lf.interop.from_state_dict takes tensors by name"),
    Suggestion("torch.nn.Module", is_plain_function,
        "make a layer of it by lf.interop.from_function"),
)  # fmt: skip


def suggest(given: object, kind: str) -> str:
    """Find what to write in place of an object, or "" if nothing is known."""
    if is_constructor(given):
        return f"write {_call(given)}"
    texts = (mend.text for mend in SUGGESTIONS if mend.kind == kind and mend.matches(given))
    return next(texts, "").replace("{}", repr(given))
