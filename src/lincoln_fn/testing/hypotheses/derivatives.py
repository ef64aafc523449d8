"""The derivative of a function of one number: missing, of another sign, or taken elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Guess, Hypothesis
from lincoln_fn.testing.hypotheses.local import Local, groups, local

# Derivatives that are written by the output. Taken at the input, they are wrong.
BY_OUTPUT: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda y: 1 - y**2,
    "sigmoid": lambda y: y * (1 - y),
    "exp": lambda y: y,
    "sqrt": lambda y: 0.5 / y,
    "rsqrt": lambda y: -0.5 * y**3,
    "reciprocal": lambda y: -(y**2),
    "softplus": lambda y: 1 - torch.exp(-y),
    "elu": lambda y: torch.where(y > 0, 1, y + 1),
    "log_sigmoid": lambda y: 1 - torch.exp(y),
    "logsigmoid": lambda y: 1 - torch.exp(y),
}
_SUMS = ("add", "sub", "neg")
_PRODUCTS = ("mul", "div", "matmul", "linear", "einsum", "pow", "square", "mean")


def is_pointwise(call: Local) -> bool:
    """Return whether a call is a function of one tensor, number by number as it seems."""
    one = len(call.call.outputs) == 1 and len(call.call.tracked) == 1
    return one and call.u.shape == call.v.shape and call.call.name not in _PRODUCTS


def _missing(call: Local) -> Tensor | None:
    return call.g if is_pointwise(call) and call.call.name not in _SUMS else None


def _at_output(call: Local) -> Tensor | None:
    return call.at(call.v) if is_pointwise(call) else None


def _at_cotangent(call: Local) -> Tensor | None:
    found = call.at(call.g) if is_pointwise(call) else None
    # What is zero everywhere has no path: that tells nothing of g.
    return found if found is not None and bool(found.any()) else None


def _at_input(call: Local) -> Tensor | None:
    formula = BY_OUTPUT.get(call.call.name)
    return call.g * formula(call.u) if formula else None


def _without_g(call: Local) -> Tensor | None:
    if not is_pointwise(call):
        return None
    (du,) = call.call.vjp([torch.ones_like(call.g)])
    # Softmax's sum is 1 whatever x: its gradient for g = 1 is zero.
    return du if bool(du.abs().max() > 1e-9) else None


def _inverted(call: Local) -> Tensor | None:
    """Exchange the two slopes of a function that has two, such as relu."""
    if not is_pointwise(call):
        return None
    slopes = call.call.vjp([torch.ones_like(call.g)])[0]
    low, high = slopes.min(), slopes.max()
    if low == high or not bool(((slopes == low) | (slopes == high)).all()):
        return None
    return call.g * (low + high - slopes)


def _of_another(call: Local, function: Callable[[Tensor], Tensor]) -> Tensor | None:
    if not is_function(call):
        return None
    with torch.enable_grad():
        u = call.u.clone().requires_grad_()
        return torch.autograd.grad(function(u), u, call.g)[0]


def _by_output(call: Local, formula: Callable[[Tensor], Tensor]) -> Tensor | None:
    return call.g * formula(call.v) if is_function(call) else None


def is_function(call: Local) -> bool:
    """Return whether a call is a function of one tensor, powers included and sums not."""
    is_power = call.call.name in ("pow", "square") and call.u.shape == call.v.shape
    return is_power or (is_pointwise(call) and call.call.name not in _SUMS)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu, "exp": torch.exp,
    "log": torch.log, "sqrt": torch.sqrt, "square": torch.square, "abs": torch.abs,
    "sin": torch.sin, "cos": torch.cos, "1/x": torch.reciprocal,
    "softplus": torch.nn.functional.softplus,
}  # fmt: skip


def _formula(call: Local, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor | None:
    return call.g * of(call.u, call.v) if is_function(call) else None


# By the input u and the output v.
FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "the output y": lambda u, v: v,
    "1 - y, with y the output,": lambda u, v: 1 - v,
    "1 + y, with y the output,": lambda u, v: 1 + v,
    "y^2, with y the output,": lambda u, v: v**2,
    "1 + y^2, with y the output,": lambda u, v: 1 + v**2,
    "y (1 + y), with y the output,": lambda u, v: v * (1 + v),
    "the input": lambda u, v: u,
    "1 - x, with x the input,": lambda u, v: 1 - u,
}


def _unmasked(call: Local) -> Tensor:
    return call.g.sum_to_size(call.u.shape)


def _other_branch(call: Local) -> Tensor:
    return _unmasked(call) - call.right


def _branches(evidence: Evidence) -> Iterator[Guess]:
    """Take one branch of torch.where everywhere, or each where the other belongs."""
    for tape, calls, at in groups(evidence, grouped=False):
        branches = [call.leaves[1:3] for call in calls]
        if at != "where" or any(len(pair) < 2 for pair in branches):
            continue
        for how, of_first, of_second in (
            ("its first branch everywhere", 1, 0),
            ("its second branch everywhere", 0, 1),
            ("each branch where the other belongs", None, None),
        ):

            def mistake(
                call: Call, gs: list[Tensor], first: int | None = of_first,
                second: int | None = of_second,
            ) -> list[Tensor | None]:  # fmt: skip
                changed: list[Tensor | None] = []
                for u, right in zip(call.inputs, call.vjp(gs), strict=True):
                    whole = gs[0].sum_to_size(u.shape)
                    part = first if u is call.leaves[1] else second
                    changed.append(whole - right if part is None else whole * part)
                return changed

            found = tape.gradients_if(calls, mistake)
            yield Guess([*found], {"at": at, "how": how, "code": calls[0].code})


def _untransposed(call: Local) -> Tensor | None:
    """Apply the function itself to g, as if it were its own transpose."""
    if len(call.call.tracked) != 1 or call.call.name in _PRODUCTS:
        return None
    (moved,) = call.call.run([torch.zeros_like(call.u)])
    if bool(moved.any()):
        return None  # it is not linear
    applied, opposite = (call.call.run([g])[0].detach() for g in (call.g, -call.g))
    return applied if torch.equal(applied, -opposite) and bool(applied.any()) else None


def _negative(call: Local) -> Tensor | None:
    return -call.right


HYPOTHESES = [
    local("derivative missing", "lacks the derivative of {at}()", _missing),
    local("mask inverted", "inverts the mask of {at}()", _inverted),
    local(
        "at y for x", "takes the derivative of {at}() at its output, not at its input", _at_output
    ),
    local(
        "at x for y",
        "takes the derivative of {at}() at its input, where the formula needs its output",
        _at_input,
    ),
    local("mask from g", "takes the derivative of {at}() at g, not at its input", _at_cotangent),
    local("mask missing", "has no mask in {at}()", _unmasked, only=("where", "masked_fill")),
    local(
        "mask inverted",
        "has the mask of {at}() inverted",
        _other_branch,
        only=("where", "masked_fill"),
    ),
    Hypothesis("branch", "takes the derivative of {how}, in {at}()", _branches),
    local(
        "not transposed",
        "applies {at}() to g as forward does, where its transpose belongs",
        _untransposed,
    ),
    local("g forgotten", "forgets g in the derivative of {at}()", _without_g),
]
SIGN = [local("sign", "has the wrong sign in the derivative of {at}()", _negative, grouped=True)]
OTHERS = [
    *(
        local("another formula", f"has {name} in place of the derivative of {{at}}()",
              partial(_formula, of=of))
        for name, of in FORMULAS.items()
    ),
    local("at -x", "takes the derivative of {at}() at minus its input",
          lambda call: call.at(-call.u) if is_function(call) else None),
    *(
        local(
            "another function",
            f"has the derivative of {name} in place of that of {{at}}()",
            partial(_of_another, function=function),
        )
        for name, function in FUNCTIONS.items()
    ),
    *(
        local(
            "another function",
            f"has the derivative of {name} at y in place of that of {{at}}()",
            partial(_by_output, formula=by),
        )
        for name, by in BY_OUTPUT.items()
    ),
]  # fmt: skip
