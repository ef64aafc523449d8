"""What a value is, in a few words, and what to write instead of a wrong one.

`SUGGESTIONS` lists the most common mistakes, and `HABITS` torch's names by their owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter, ismodule, signature
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
    mend = f"; {A_TUPLE}" if isinstance(given, list) else ""
    return f"{format_briefly(given)}{mend}"


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


def _names(given: object) -> set[str]:
    """Name what an object is, or what a class makes: by its classes, or by a word."""
    of_class = given.__mro__ if isinstance(given, type) else ()
    names = {kind.__name__ for kind in (*type(given).__mro__, *of_class)}
    names -= {"int"} if "bool" in names else set()
    words = {
        "function": is_plain_function(given),
        "shape": isinstance(given, tuple) and {type(size) for size in given} == {int},
        "layers": isinstance(given, list | tuple) and "Layer" in {type(g).__name__ for g in given},
    }
    return names | {word for word, fits in words.items() if fits}


# What is expected, in the error's words; the names of what the suggestion is for, "" for all; and
# what to write, where {} is replaced by the object.
SUGGESTIONS: Final[Sequence[tuple[str, str, str]]] = (
    ("Layer", "Module", "make a layer of the module by lf.interop.from_torch"),
    ("Layer", "layers", "write lf.serial(*layers)"),
    ("Layer", "Loss", "check_loss and make_step take a loss"),
    ("Layer", "function", "make a layer of a function by lf.interop.from_function"),
    ("Loss", "Module function", "see lf.losses"),
    ("Loss", "Layer", "check_layer and make_step take a layer"),
    ("Optimizer", "Optimizer", "see lf.optim"),
    ("Optimizer", "Transform", "write lf.optim.chain({}, optimizer)"),
    ("Optimizer", "Schedule", "write lf.optim.sgd({})"),
    ("a Transform or an Optimizer", "list tuple", "write lf.optim.chain(*parts)"),
    ("Initializer", "float int", "write lf.initializers.constant({})"),
    ("Initializer", "function", "see lf.initializers"),
    ("Key", "int", "write lf.Key({})"),
    ("Key", "Generator type", "write lf.Key(seed)"),
    ("tensor", "shape", "write torch.empty{}"),
    ("tensor", "ndarray", "convert it by torch.as_tensor"),
    ("tensor", "DataFrame Series",
        "convert it by torch.as_tensor(x.to_numpy('float32')), or labels by y.to_numpy()"),
    ("tensor", "list float int", "convert it by torch.tensor"),
    ("params", "TrainState", "give its state.params"),
    ("params", "Module", "lf.interop.from_torch makes params of it"),
    ("params", "dict", "lf.interop.from_state_dict makes params of torch's"),
    ("params", "Tensor", "the order is (params, x)"),
    ("a function of a prediction and its target", "", "see lf.metrics"),
    ("what make_step returns", "Layer", "lf.make_step(net, loss, optimizer) makes it"),
    ("TrainState", "", "lf.init_state(net, optimizer, key, x) makes one"),
    (STATE, "", "lf.init_state(net, optimizer, key, x) makes a TrainState"),
    ("torch.nn.Module", "type", "make an object of the class"),
    ("torch.nn.Module", "dict", "lf.interop.from_state_dict takes tensors by name"),
    ("torch.nn.Module", "function", "make a layer of it by lf.interop.from_function"),
)  # fmt: skip


def suggest(given: object, kind: str) -> str:
    """Find what to write in place of an object, or "" if nothing is known."""
    if is_constructor(given):
        return f"write {_call(given)}"
    names = _names(given)
    rows = (row for row in SUGGESTIONS if row[0] == kind)
    texts = (text for _, of, text in rows if not of or not names.isdisjoint(of.split()))
    return next(texts, "").replace("{}", repr(given))


_LEAVES = "the tensors are in params = net.init(key, x), which lf.tree.leaves lists"
_MOVE = (
    "a layer holds no tensors: params = lf.tree.map(lambda t: t.to(device), params, states=True)"
)
_MODE = "net.predict(params, x) is as after training, and net.forward(params, x) as in it"
_DRAW = "lf.keys.normal and lf.keys.uniform draw from a key"
_KEY = "write key = lf.Key(0), an argument of each function that draws"
_TAPE = "nothing to write: no function here records what autograd would need"
_RATE = "any function of the step is a schedule, as lr"

HABITS: Final[dict[str, dict[str, str]]] = {
    "Layer": {
        **dict.fromkeys(("eval", "train", "training"), _MODE),
        **dict.fromkeys(("cpu", "cuda", "double", "float", "half", "to"), _MOVE),
        **dict.fromkeys(("bias", "named_parameters", "parameters", "weight"), _LEAVES),
        **dict.fromkeys(("children", "modules"), "write net.parts"),
        "load_state_dict": "write params = lf.interop.from_state_dict(net, state_dict)",
        "register_forward_hook": "lf.inspect.outputs returns what the layers compute",
        "requires_grad_": "write lf.frozen(layer)",
        "state_dict": "write lf.interop.to_state_dict(net, params)",
        "zero_grad": "nothing to write: gradients are new values",
    },
    "Optimizer": {
        "state_dict": "its state is a value: opt_state = optimizer.init(params)",
        "step": "write params, opt_state = optimizer.update(params, dparams, opt_state)",
        "zero_grad": "nothing to write: gradients are new values",
    },
    "lincoln_fn": {
        **dict.fromkeys(("enable_grad", "inference_mode", "no_grad"), _TAPE),
        **dict.fromkeys(("manual_seed", "seed"), _KEY),
        **dict.fromkeys(("rand", "randn"), _DRAW),
        "DataLoader": "write lf.data.batches, or give batches of torch's DataLoader",
        "Tensor": "write torch.Tensor: tensors are torch's",
        **{
            name: f"write torch.{name}: tensors are torch's"
            for name in ("arange", "device", "empty", "full", "ones", "tensor", "zeros")
        },
    },
    "lincoln_fn.losses": {
        "bce": "write lf.losses.log_loss, or lf.losses.sigmoid_cross_entropy on logits",
        "bce_with_logits": "write lf.losses.sigmoid_cross_entropy",
        "mae": "write lf.losses.l1",
    },
    "lincoln_fn.schedules": {
        "CosineAnnealingLR": "write lf.schedules.cosine",
        "CosineAnnealingWarmRestarts": "write lf.schedules.cosine_restarts",
        "ExponentialLR": "write lf.schedules.exponential",
        "LambdaLR": _RATE,
        "LinearLR": "write lf.schedules.linear",
        "MultiStepLR": "write lf.schedules.piecewise(lrs, boundaries)",
        "OneCycleLR": "write lf.schedules.one_cycle",
        "PolynomialLR": "write lf.schedules.polynomial",
        "StepLR": "write lf.schedules.piecewise(lrs, boundaries)",
    },
}


def no_attribute(owner: str, name: str) -> AttributeError:
    """Make the error of an object without an attribute, with what to write for one of torch's."""
    mend = HABITS[owner].get(name, "")
    problem = f"{owner!r} object has no attribute {name!r}"
    return AttributeError(f"{problem}; {mend}" if mend else problem)
