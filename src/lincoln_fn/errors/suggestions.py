"""What to write instead of a wrong argument.

`SUGGESTIONS` lists the most common mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from typing import Final

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


# What is expected, in the error's words; whether the suggestion is for this object; and what to
# write, where {} is replaced by the object.
SUGGESTIONS: Final[Sequence[tuple[str, Callable[[object], bool], str]]] = (
    ("Layer", _of_torch(nn.Module), "make a layer of the module by lf.interop.from_torch"),
    ("Layer", _has_layers, "write lf.serial(*layers)"),
    ("Layer", _has_class_name("Loss"), "check_loss and make_step take a loss"),
    ("Layer", is_plain_function, "make a layer of a function by lf.interop.from_function"),
    ("Loss", _of_torch(nn.Module), "see lf.losses"),
    ("Loss", is_plain_function, "see lf.losses"),
    ("Loss", _has_class_name("Layer"), "check_layer and make_step take a layer"),
    ("Optimizer", _of_torch(TorchOptimizer), "see lf.optim"),
    ("Optimizer", _has_class_name("Transform"), "write lf.optim.chain({}, optimizer)"),
    ("Optimizer", _has_class_name("Schedule"), "write lf.optim.sgd({})"),
    ("a Transform or an Optimizer", _is(list, tuple), "write lf.optim.chain(*parts)"),
    ("Initializer", _is(float, int), "write lf.initializers.constant({})"),
    ("Initializer", is_plain_function, "see lf.initializers"),
    ("Key", _is(int), "write lf.Key({})"),
    ("Key", _has_class_name("Generator", "type"), "write lf.Key(seed)"),
    ("tensor", _is_shape, "write torch.empty{}"),
    ("tensor", _has_class_name("ndarray"), "convert it by torch.as_tensor"),
    ("tensor", _has_class_name("DataFrame", "Series"),
        "convert it by torch.as_tensor(x.to_numpy('float32')), or labels by y.to_numpy()"),
    ("tensor", _is(list, float, int), "convert it by torch.tensor"),
    ("params", _has_class_name("TrainState"), "give its state.params"),
    ("params", _is(nn.Module), "lf.interop.from_torch makes params of it"),
    ("params", _is(dict), "lf.interop.from_state_dict makes params of torch's"),
    ("params", _is(Tensor), "the order is (params, x)"),
    ("a function of a prediction and its target", _always, "see lf.metrics"),
    ("what make_step returns", _has_class_name("Layer"),
        "lf.make_step(net, loss, optimizer) makes it"),
    ("TrainState", _always, "lf.init_state(net, optimizer, key, x) makes one"),
    (STATE, _always, "lf.init_state(net, optimizer, key, x) makes a TrainState"),
    ("torch.nn.Module", _is(type), "make an object of the class"),
    ("torch.nn.Module", _is(dict), "lf.interop.from_state_dict takes tensors by name"),
    ("torch.nn.Module", is_plain_function, "make a layer of it by lf.interop.from_function"),
)  # fmt: skip


def suggest(given: object, kind: str) -> str:
    """Find what to write in place of an object, or "" if nothing is known."""
    if is_constructor(given):
        return f"write {_call(given)}"
    texts = (text for of, matches, text in SUGGESTIONS if of == kind and matches(given))
    return next(texts, "").replace("{}", repr(given))
