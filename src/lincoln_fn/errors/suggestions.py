"""What to write instead of a wrong argument, and of torch's names that have no counterpart.

`SUGGESTIONS` lists the most common mistakes, and `HABITS` torch's names by their owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter, signature
from typing import Final

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
