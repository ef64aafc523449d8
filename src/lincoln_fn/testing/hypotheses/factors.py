"""A factor of a product, a quotient, a power or a mean: missing, twice, or another one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Guess, Hypothesis
from lincoln_fn.testing.hypotheses.local import Local, groups, local

_REDUCTIONS = ("mean", "sum", "logsumexp", "var", "std", "norm", "prod")


def _other(call: Local) -> Tensor | float | None:
    """Return the other operand of a product or quotient."""
    leaves = [leaf for leaf in call.call.leaves if isinstance(leaf, Tensor | float | int)]
    if len(leaves) < 2 or len(call.call.leaves) > 3:
        return None
    mine = call.call.inputs[call.k]
    other = leaves[1] if leaves[0] is mine else leaves[0]
    return other.detach() if isinstance(other, Tensor) else other


def _missing(call: Local) -> Tensor | None:
    """Pass g on as it is, without the other factor; the count of an average is not one."""
    other = _other(call)
    if call.call.name == "div" and not isinstance(other, float) and _is_count(other):
        return None
    if call.call.name == "div" and call.call.leaves[0] is not call.call.inputs[call.k]:
        return None
    return call.g.sum_to_size(call.u.shape)


def _is_count(other: Tensor | int | None) -> bool:
    if other is None:
        return False
    values = torch.as_tensor(other).flatten()
    same = bool(values.numel()) and bool((values == values[0]).all())
    return same and float(values[0]) == int(values[0])


def _own(call: Local) -> Tensor | None:
    other = _other(call)
    if not isinstance(other, Tensor):
        return None
    return (call.g * call.u).sum_to_size(call.u.shape)


def _twice(call: Local) -> Tensor | None:
    other = _other(call)
    if other is None or (isinstance(other, Tensor) and other.ndim and other.shape != call.g.shape):
        return None
    return call.right * other if call.call.name == "mul" else call.right / other


def _half(call: Local) -> Tensor:
    return call.right / 2


def _double(call: Local) -> Tensor:
    return call.right * 2


def _count(call: Local) -> float:
    return call.u.numel() / max(1, call.v.numel())


def _not_averaged(call: Local) -> Tensor:
    return call.right * _count(call)


def _averaged(call: Local) -> Tensor:
    return call.right / _count(call)


def _not_squared(call: Local) -> Tensor | None:
    """Divide by the denominator once, where the derivative has its square."""
    is_below = call.call.leaves[0] is not call.call.inputs[call.k]
    return (call.g * call.v).sum_to_size(call.u.shape).neg() if is_below else None


def _without_numerator(call: Local) -> Tensor | None:
    is_below = call.call.leaves[0] is not call.call.inputs[call.k]
    return -(call.g / call.u**2).sum_to_size(call.u.shape) if is_below else None


def _exponent(call: Local) -> float | None:
    given = call.call.leaves[1] if len(call.call.leaves) > 1 else None
    return float(given) if isinstance(given, int | float) else None


def _exponent_missing(call: Local) -> Tensor | None:
    p = 2.0 if call.call.name == "square" else _exponent(call)
    return call.right / p if p else None


def _exponent_kept(call: Local) -> Tensor | None:
    return call.right * call.u


def _times_output(call: Local) -> Tensor:
    return call.right * call.v


def _by_output(call: Local) -> Tensor:
    return call.right / call.v


def _by_input(call: Local) -> Tensor:
    return call.right / call.u


_POWERS = ("pow", "square", "sqrt", "rsqrt", "reciprocal", "div", "log", "exp")


def _undivided(evidence: Evidence) -> Iterator[Guess]:
    """Leave the denominator out of the gradients of both operands of a quotient."""
    for tape, calls, at in groups(evidence, grouped=False):
        if at != "div" or any(len(call.tracked) != 2 for call in calls):
            continue

        def undivided(call: Call, gs: list[Tensor]) -> list[Tensor | None]:
            return [*call.vjp([gs[0] * call.inputs[1].detach()])]

        found = tape.gradients_if(calls, undivided)
        yield Guess([*found], {"at": at, "code": calls[0].code})


PRODUCTS = [
    local("factor missing", "lacks the {factor} of {at}()", _missing, only=("mul", "div")),
    local(
        "own factor", "is multiplied by the input of {at}() itself, not by the other", _own,
        only=("mul",),
    ),
    local("factor twice", "has the {factor} of {at}() twice", _twice, only=("mul", "div")),
    local("exponent missing", "lacks the factor of the exponent in {at}()", _exponent_missing,
          only=("pow", "square")),
]  # fmt: skip
HYPOTHESES = [
    local("1/N missing", "lacks the factor 1/N of {at}()", _not_averaged, only=("mean",)),
    local("averaged", "averages where {at}() sums", _averaged, only=("sum",)),
    local("averaged twice", "has the factor 1/N of {at}() twice", _averaged, only=("mean",)),
    local("denominator", "lacks a square: 1/b for 1/b^2, in {at}()", _not_squared, only=("div",)),
    Hypothesis("factor missing", "is not divided by the denominator of {at}()", _undivided),
    local("numerator", "lacks the numerator in {at}()", _without_numerator, only=("div",)),
    local("exponent kept", "does not lower the exponent in {at}()", _exponent_kept,
          only=("pow", "square")),
    *(
        local("wrong power", "has the wrong power in the derivative of {at}()", wrong, only=_POWERS)
        for wrong in (_times_output, _by_output, _exponent_kept, _by_input)
    ),
    local("half", "is half of what it should be in {at}()", _half, grouped=True),
    local("double", "is twice what it should be in {at}()", _double, grouped=True),
]  # fmt: skip
