"""What to write here in place of torch's names that have no counterpart, by their owner."""

from __future__ import annotations

from typing import Final

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
