"""A factor that is missing, twice, or another one.

It may be one of an operation, of a whole gradient, or of a path. What is known of it comes first:
the other operand of a product, a count, an array. A number that the submission tells comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from lincoln_fn.core import Key
from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import (
    Candidates,
    Cost,
    Guess,
    Hypothesis,
    change_each,
    guess_alone,
)
from lincoln_fn.testing.hypotheses.local import (
    Local,
    guesses_if,
    list_groups,
    local,
    make_table,
)
from lincoln_fn.testing.plain import first_not_linear

# One number is found from the submitted gradient, so that fewer places tell nothing.
FEWEST = 4
_POWERS = ("pow", "square", "sqrt", "rsqrt", "reciprocal", "div", "log", "exp")


# Of one operation.


def _is_first(call: Local) -> bool:
    return call.call.leaves[0] is call.call.inputs[call.k]


def _find_other(call: Local) -> Tensor | float | None:
    """Return the other operand of a product or quotient."""
    leaves = [leaf for leaf in call.call.leaves if isinstance(leaf, Tensor | float | int)]
    if len(leaves) < 2 or len(call.call.leaves) > 3:
        return None
    other = leaves[1] if _is_first(call) else leaves[0]
    return other.detach() if isinstance(other, Tensor) else other


def _drop(call: Local) -> Tensor | None:
    """Pass g on as it is, without the other factor; the count of an average is not one."""
    other = _find_other(call)
    if call.call.name == "div":
        is_count = not isinstance(other, float) and _is_count(other)
        if is_count or not _is_first(call):
            return None
    return call.g.sum_to_size(call.u.shape)


def _is_count(other: Tensor | int | None) -> bool:
    if other is None:
        return False
    values = torch.as_tensor(other).flatten()
    same = bool(values.numel()) and bool((values == values[0]).all())
    return same and float(values[0]) == int(values[0])


def _take_own(call: Local) -> Tensor | None:
    is_tensor = isinstance(_find_other(call), Tensor)
    return (call.g * call.u).sum_to_size(call.u.shape) if is_tensor else None


def _square(call: Local) -> Tensor | None:
    other = _find_other(call)
    if other is None or (isinstance(other, Tensor) and other.ndim and other.shape != call.g.shape):
        return None
    return call.right * other if call.call.name == "mul" else call.right / other


def _drop_exponent(call: Local) -> Tensor | None:
    given = call.call.leaves[1] if len(call.call.leaves) > 1 else None
    p = 2.0 if call.call.name == "square" else given
    return call.right / float(p) if isinstance(p, int | float) and p else None


def _count(call: Local) -> float:
    return call.u.numel() / max(1, call.v.numel())


def _mistake_denominator(call: Local, wrong: Callable[[Local], Tensor]) -> Tensor | None:
    return None if _is_first(call) else wrong(call).sum_to_size(call.u.shape).neg()


def _leave_undivided(evidence: Evidence) -> Iterator[Guess]:
    """Leave the denominator out of the gradients of both operands of a quotient."""
    for tape, calls, at in list_groups(evidence):
        if at != "div" or any(len(call.tracked) != 2 for call in calls):
            continue

        def undivided(call: Call, gs: list[Tensor], right: list[Tensor]) -> list[Tensor]:
            return call.vjp([gs[0] * call.inputs[1].detach()])

        yield from guesses_if(tape, calls, undivided)


_SQUARES = ("pow", "square")
_FACTOR = partial(local, cost=Cost.FACTOR)
_WRONG_POWER = "has the wrong power in the derivative of {at}()"
OF_OPERATIONS = [
    _FACTOR("factor missing", "lacks the {factor} of {at}()", _drop, only=("mul", "div")),
    _FACTOR("own factor", "is multiplied by the input of {at}() itself, not by the other",
            _take_own, only=("mul",)),
    _FACTOR("factor twice", "has the {factor} of {at}() twice", _square, only=("mul", "div")),
    _FACTOR("exponent missing", "lacks the factor of the exponent in {at}()", _drop_exponent,
            only=_SQUARES),
    *make_table(
        ("1/N missing", "lacks the factor 1/N of {at}()", lambda call: call.right * _count(call),
        ("mean",)), ("denominator", "lacks a square: 1/b for 1/b^2, in {at}()",
        partial(_mistake_denominator, wrong=lambda call: call.g * call.v), ("div",)),),
    Hypothesis("factor missing", "is not divided by the denominator of {at}()", _leave_undivided,
               Cost.OPERATION),
    *make_table(
        ("exponent kept", "does not lower the exponent in {at}()", lambda call: call.right * call.u,
        _SQUARES), ("wrong power", _WRONG_POWER, lambda call: call.right * call.v, _POWERS),
        ("wrong power", _WRONG_POWER, lambda call: call.right / call.v, _POWERS),
        ("wrong power", _WRONG_POWER, lambda call: call.right * call.u, _POWERS),
        ("wrong power", _WRONG_POWER, lambda call: call.right / call.u, _POWERS),),
]  # fmt: skip


# Of whole gradients.


def _multiply(evidence: Evidence, factor: float | Tensor, **words: object) -> Guess:
    return Guess([_multiply_one(right, factor) for right in evidence.expected], words)


def _multiply_one(right: Tensor, factor: float | Tensor) -> Tensor | None:
    if not isinstance(factor, Tensor):
        return right * factor
    pairs = zip(reversed(factor.shape), reversed(right.shape), strict=False)
    fits = factor.ndim <= right.ndim and all(n in (1, m) for n, m in pairs)
    return right * factor if fits and factor.numel() > 1 else None


def _average(evidence: Evidence) -> Iterator[Guess]:
    for n in evidence.sizes:
        yield _multiply(evidence, 1 / n, n=n)


def _sum(evidence: Evidence) -> Iterator[Guess]:
    for n in evidence.sizes if _is_averaging(evidence) else ():
        yield _multiply(evidence, n, n=n)


def _is_averaging(evidence: Evidence) -> bool:
    """Return whether forward divides by a count: by a mean, or written out; if it can be seen."""
    tapes = evidence.tapes[-1:]
    return not tapes or any(
        call.name in ("mean", "div", "mul", "var", "std") or "pool" in call.name
        or call.name.endswith(("loss", "cross_entropy", "entropy_with_logits", "norm"))
        for call in tapes[0].calls
    )  # fmt: skip


def _multiply_by_arrays(evidence: Evidence) -> Iterator[Guess]:
    """Multiply or divide a gradient by an array, or by y."""
    arrays = zip(evidence.sample.names, evidence.sample.arrays, strict=True)
    known = [(name.removeprefix("d"), array) for name, array in arrays]
    known += [("y", y) for y in evidence.y]
    known += [(f"(1 - {words})", 1 - a) for words, a in known if bool(((a > 0) & (a < 1)).all())]
    for said, factor in known:
        yield _multiply(evidence, factor, how=f"has the further factor {said}")
        yield _multiply(evidence, 1 / factor, how=f"is divided by {said}")


def _change_each(change: Callable[[Tensor, Tensor], Tensor | None]) -> Candidates:
    """Make the candidate from (array, right gradient)."""

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        yield Guess([*map(change, evidence.sample.arrays, evidence.expected)])

    return candidates


def _pass_sigmoid(p: Tensor, right: Tensor) -> Tensor | None:
    """Differentiate by the score that the sigmoid makes p of."""
    return right * p * (1 - p) if bool(((p > 0) & (p < 1)).all()) else None


OF_WHOLES = [
    Hypothesis("averaged", "is {n} times too small: averaged where it should be summed?",
               _average, Cost.NUMBER),
    Hypothesis("summed", "is {n} times too large: summed where it should be averaged?", _sum,
               Cost.NUMBER),
    Hypothesis("double", "is 2 times too large", change_each(lambda right: 2 * right), Cost.NUMBER),
    Hypothesis("half", "is 2 times too small", change_each(lambda right: right / 2), Cost.NUMBER),
    Hypothesis("gradient by the score", "is the gradient by the score that sigmoid makes x of",
               _change_each(_pass_sigmoid), Cost.OPERAND),
]  # fmt: skip


# Numbers that the submission tells.


def _fit(given: Tensor, right: Tensor, part: Tensor) -> tuple[Tensor, float] | None:
    """Find the number k that makes right + k part the nearest to what is given."""
    size = part.square().sum()
    if given.shape != right.shape or right.numel() < FEWEST or not bool(size > 0):
        return None
    k = float(((given - right) * part).sum() / size)
    return right + k * part, k


def _add_array(evidence: Evidence) -> Iterator[Guess]:
    """Add a multiple of an array to its gradient, as a weight decay does."""
    if first_not_linear(evidence.sample, Key(8)) is not None:
        return
    for i, (given, right) in enumerate(evidence.pairs()):
        if found := _fit(given, right, evidence.sample.arrays[i]):
            name = evidence.sample.names[i].removeprefix("d")
            yield guess_alone(evidence, i, found[0], k=f"{found[1]:.6g}", name=name)


def _scale(evidence: Evidence) -> Iterator[Guess]:
    """Multiply each gradient by one number."""
    for i, (given, right) in enumerate(evidence.pairs()):
        if given.shape != right.shape or right.numel() < 2:
            continue
        ratio = float((given * right).sum() / right.square().sum().clamp_min(1e-300))
        size = abs(ratio) if abs(ratio) > 1 else 1 / max(abs(ratio), 1e-300)
        sign = ", with the wrong sign" if ratio < 0 else ""
        scale = f"{size:.6g} times too {'large' if abs(ratio) > 1 else 'small'}{sign}"
        yield guess_alone(evidence, i, right * ratio, scale=scale)


FITTED = [
    Hypothesis("further factor", "{how}", _multiply_by_arrays, Cost.OPERAND),
    Hypothesis("further term",
        "has the further term {k} {name}, which forward does not have: a weight decay?", _add_array,
        Cost.FITTED),
    Hypothesis("scale", "is {scale}", _scale, Cost.FITTED),
]  # fmt: skip
HYPOTHESES = [*OF_OPERATIONS, *OF_WHOLES, *FITTED]
