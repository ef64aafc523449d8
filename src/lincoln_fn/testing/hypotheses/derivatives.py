"""The derivative of a function of one number: missing, of another sign, or taken elsewhere.

The function may be the whole layer, one operation of forward, or one part of what an operation
returns, as in `i, f, o = torch.sigmoid(a).chunk(3, -1)`. The mistakes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses import polynomials
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis
from lincoln_fn.testing.hypotheses.local import Local, guesses_if, list_groups, local
from lincoln_fn.testing.tape import Tape

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
_POWERS = ("pow", "square")
_PRODUCTS = ("mul", "div", "matmul", "linear", "einsum", "mean")


@attrs.frozen(eq=False)
class Whole:
    """A layer whose y is a function of one array, number by number; as `Local` is of one call."""

    u: Tensor
    v: Tensor
    g: Tensor
    slope: Tensor
    # Computes the gradient of the array as if its value were another.
    at: Callable[[Tensor], Tensor | None]


Function: TypeAlias = Local | Whole
Wrong: TypeAlias = Callable[[Function], Tensor | None]


def is_function(call: Local) -> bool:
    """Return whether a call is a function of one tensor, number by number as it seems."""
    one = len(call.call.outputs) == 1 and len(call.call.tracked) == 1
    return one and call.u.shape == call.v.shape and call.call.name not in (*_SUMS, *_PRODUCTS)


def of_layer(name: str, sentence: str, wrong: Wrong) -> Hypothesis:
    """Make the hypothesis of a mistake in the derivative of the whole layer."""

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        found: list[Tensor | None] = [None] * len(evidence.expected)
        for i, u in enumerate(evidence.sample.arrays):
            slope = evidence.derivative(i)
            if slope is not None:
                at = partial(_take_value, evidence, i)
                found[i] = wrong(Whole(u, evidence.y[0], evidence.g[0], slope, at))
        yield Guess(found)

    return Hypothesis(name, sentence, candidates, Cost.FORMULA)


def _take_value(evidence: Evidence, i: int, u: Tensor) -> Tensor | None:
    arrays = evidence.sample.arrays
    found = evidence.gradients([*arrays[:i], u, *arrays[i + 1 :]])
    return found[i] if found else None


def of_call(name: str, sentence: str, wrong: Wrong, cost: Cost = Cost.OPERATION) -> Hypothesis:
    """Make the hypothesis of a mistake in the derivative of one operation."""
    # A power has mistakes of its own, which come before those of any function.
    powers = cost > Cost.OPERATION

    def of_function(call: Local) -> Tensor | None:
        is_one = is_function(call) and (powers or call.call.name not in _POWERS)
        return wrong(call) if is_one else None

    return local(name, sentence, of_function, cost=cost)


def of_part(name: str, what: str, wrong: Wrong) -> Hypothesis:
    """Make the hypothesis of a mistake in one part of what an operation returns."""

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        for tape, calls, at in list_groups(evidence):
            for part, mask in enumerate(_mark_parts(tape, calls[0])):

                def mistake(
                    call: Call, gs: list[Tensor], right: list[Tensor],
                    tape: Tape = tape, mask: Tensor = mask,
                ) -> list[Tensor | None]:  # fmt: skip
                    guess = wrong(Local(tape, call, 0, gs, right))
                    return [None if guess is None else torch.where(mask, guess, right[0])]

                yield from guesses_if(tape, calls, mistake, part=part)

    sentence = f"{what} of {{at}}() in part {{part}} of its output"
    return Hypothesis(name, sentence, candidates, Cost.OPERATION)


def _mark_parts(tape: Tape, call: Call) -> list[Tensor]:
    """Mark the places of the parts that a function's output is divided into."""
    if not is_function(Local(tape, call, 0, [], [])):
        return []
    (v,) = call.outputs
    division = next((c for c in tape.calls if len(c.outputs) > 1 and c.inputs[0] is v), None)
    if division is None:
        return []
    zeros = [torch.zeros_like(output) for output in division.outputs]
    return [
        division.vjp([*zeros[:n], torch.ones_like(zeros[n]), *zeros[n + 1 :]])[0] != 0
        for n in range(len(zeros))
    ]


def _find_slopes(of: Function) -> tuple[Tensor, Tensor] | None:
    """Return the two slopes of a function that has two, such as relu."""
    d = of.slope
    if not d.numel():
        return None
    low, high = d.min(), d.max()
    two = bool((((d - low).abs() < 1e-9) | ((d - high).abs() < 1e-9)).all())
    return (low, high) if two and low < high else None


def _invert(of: Function) -> Tensor | None:
    slopes = _find_slopes(of)
    return of.g * (slopes[0] + slopes[1] - of.slope) if slopes else None


def _change_mask(change: Callable[[Tensor, Tensor], Tensor]) -> Wrong:
    """Change a mask that is 0 or one number, as a dropout's is; (mask, number) -> mask."""

    def wrong(of: Function) -> Tensor | None:
        slopes = _find_slopes(of)
        return of.g * change(of.slope, slopes[1]) if slopes and slopes[0] == 0 else None

    return wrong


def _take_input(of: Function) -> Tensor | None:
    if isinstance(of, Whole):
        return polynomials.evaluate_at_input(of.u, of.v, of.slope, of.g)
    formula = BY_OUTPUT.get(of.call.name)
    return of.g * formula(of.u) if formula else None


def _take_cotangent(of: Function) -> Tensor | None:
    found = of.at(of.g)
    # What is zero everywhere has no path: that tells nothing of g.
    return found if found is not None and bool(found.any()) else None


def _divide(of: Function) -> Tensor | None:
    return of.g / of.slope if bool((of.slope != 0).all()) else None


_ONE_MINUS = "1 - y, with y the output,"


def _subtract_output(of: Function) -> Tensor:
    return of.g * (1 - of.v)


def _unmask(call: Local) -> Tensor:
    return call.g.sum_to_size(call.u.shape)


def _take_branches(evidence: Evidence) -> Iterator[Guess]:
    """Take one branch of torch.where everywhere, or each where the other belongs."""
    for tape, calls, at in list_groups(evidence):
        if at != "where" or any(len(call.leaves) < 3 for call in calls):
            continue
        for how, of_first, of_second in (
            ("its first branch everywhere", 1, 0),
            ("its second branch everywhere", 0, 1),
            ("each branch where the other belongs", None, None),
        ):

            def mistake(
                call: Call, gs: list[Tensor], right: list[Tensor],
                first: int | None = of_first, second: int | None = of_second,
            ) -> list[Tensor | None]:  # fmt: skip
                changed: list[Tensor | None] = []
                for u, du in zip(call.inputs, right, strict=True):
                    every = gs[0].sum_to_size(u.shape)
                    part = first if u is call.leaves[1] else second
                    changed.append(every - du if part is None else every * part)
                return changed

            yield from guesses_if(tape, calls, mistake, how=how)


def _leave_untransposed(call: Local) -> Tensor | None:
    """Apply the function itself to g, as if it were its own transpose."""
    if len(call.call.tracked) != 1 or call.call.name in (*_PRODUCTS, *_POWERS):
        return None
    (moved,) = call.call.run([torch.zeros_like(call.u)])
    if bool(moved.any()):
        return None  # it is not linear
    applied, opposite = (call.call.run([g])[0].detach() for g in (call.g, -call.g))
    return applied if torch.equal(applied, -opposite) and bool(applied.any()) else None


def _elsewhere(where: Callable[[Function], Tensor]) -> Wrong:
    """Take the derivative at another place than the input."""
    # Where the right one is zero everywhere, a missing mask looks the same.
    return lambda of: of.at(where(of)) if bool(of.slope.any()) else None


# For each mistake, what is said of a whole layer and of one operation; "" where it is not tried.
MISTAKES: tuple[tuple[str, str, str, Wrong], ...] = (
    ("derivative missing", "is g itself: the mask, the derivative of the activation, is missing",
     "", lambda of: of.g if _find_slopes(of) else None),
    ("derivative missing", "is g itself: the derivative of the activation is missing",
     "lacks the derivative of {at}()", lambda of: of.g),
    ("mask inverted", "has the mask inverted", "inverts the mask of {at}()", _invert),
    ("mask missing", "has no mask", "", _change_mask(lambda mask, scale: scale.expand_as(mask))),
    ("scale missing", "has the mask, but misses the factor 1/keep", "",
     _change_mask(lambda mask, scale: (mask != 0).to(mask))),
    ("scale twice", "has the factor 1/keep twice", "", _change_mask(lambda mask, scale: mask**2)),
    ("keep for 1/keep", "has the mask, but the factor keep in place of 1/keep", "",
     _change_mask(lambda mask, scale: (mask != 0) / scale)),
    ("at y for x", "takes the derivative at y, where it belongs at x",
     "takes the derivative of {at}() at its output, not at its input", _elsewhere(lambda of: of.v)),
    ("at x for y", "takes the derivative at x, where its formula needs y",
     "takes the derivative of {at}() at its input, where the formula needs its output",
     _take_input),
    ("mask from g", "takes the derivative, or the mask, from g in place of x",
     "takes the derivative of {at}() at g, not at its input", _take_cotangent),
    ("divided", "divides by the derivative, where it should multiply", "", _divide),
    ("y for the derivative", "has the value y in place of the derivative", "",
     lambda of: of.g * of.v),
    ("another function", "has the derivative of tanh at y in place of its own", "",
     lambda of: of.g * BY_OUTPUT["tanh"](of.v)),
)  # fmt: skip
_MASKED = ("where", "masked_fill")
HYPOTHESES = [
    *(of_layer(name, said, wrong) for name, said, _, wrong in MISTAKES if said),
    *polynomials.HYPOTHESES,
    *(of_call(name, said, wrong) for name, _, said, wrong in MISTAKES if said),
    local("mask missing", "has no mask in {at}()", _unmask, only=_MASKED),
    local("mask inverted", "has the mask of {at}() inverted",
          lambda call: _unmask(call) - call.right, only=_MASKED),
    Hypothesis("branch", "takes the derivative of {how}, in {at}()", _take_branches,
               Cost.OPERATION),
    local("not transposed", "applies {at}() to g as forward does, where its transpose belongs",
          _leave_untransposed),
]  # fmt: skip
# Other mistakes in an operation are tried before these.
SIGNS_AND_PARTS = [
    local("sign", "has the wrong sign in the derivative of {at}()", lambda call: -call.right,
          grouped=True),
    of_part("derivative missing", "lacks the derivative", lambda of: of.g),
    of_part("another formula", f"has {_ONE_MINUS} in place of the derivative", _subtract_output),
]  # fmt: skip
OTHERS = [
    of_call("another formula", f"has {_ONE_MINUS} in place of the derivative of {{at}}()",
            _subtract_output, Cost.ANOTHER),
    of_call("another function", "has the derivative of abs in place of that of {at}()",
            lambda of: of.g * of.u.sign(), Cost.ANOTHER),
]  # fmt: skip
