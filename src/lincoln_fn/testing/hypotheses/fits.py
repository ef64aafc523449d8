"""Mistakes with a number in them that the submission tells.

The wrong gradient is the right one plus multiples of known parts: of a formula's terms, of the
powers of an activation's output, of an array itself. The multiples are found by least squares, and
count if they give the submission in every place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from lincoln_fn.core.keys import Key
from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.algebra import Formula, Use
from lincoln_fn.testing.hypotheses.derivatives import is_function
from lincoln_fn.testing.hypotheses.formulas import FORMULAS
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis, guess_alone
from lincoln_fn.testing.hypotheses.local import Local, attempt, describe, list_groups
from lincoln_fn.testing.hypotheses.norms import NORM, RMS_NORM
from lincoln_fn.testing.plain import first_not_linear
from lincoln_fn.testing.tape import Tape

# So many more numbers than multiples tell something.
MORE = 3
# How far from a round number a multiple may be.
ROUND = 1e-5
_POWERS = range(-4, 5)


def _solve(error: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, list[float]] | None:
    """Find the multiples of some parts that add up to an error, and their sum."""
    matrix = torch.stack([part.flatten() for part in parts], 1)
    if error.numel() < len(parts) + MORE or not bool(matrix.isfinite().all()):
        return None
    # Parts that depend on each other tell no multiples.
    if int(torch.linalg.matrix_rank(matrix)) < len(parts):
        return None
    found = torch.linalg.lstsq(matrix, error.flatten().unsqueeze(1)).solution
    return (matrix @ found).view(error.shape), found.flatten().tolist()


def _fit_terms(evidence: Evidence) -> Iterator[Guess]:
    """Multiply each term of a formula by a number."""
    for formula, use, columns in _list_columns(evidence):
        for i, (given, right) in enumerate(evidence.pairs()):
            parts = [column[i] for column in columns]
            if given.shape != right.shape or any(p is None or not bool(p.any()) for p in parts):
                continue
            solved = _solve(given - right, [p for p in parts if p is not None])
            if solved is not None:
                said = _describe_terms(formula, use, [1 + c for c in solved[1]])
                if said:
                    yield guess_alone(evidence, i, right + solved[0], what=said)


def _list_columns(
    evidence: Evidence,
) -> Iterator[tuple[Formula, Use, list[list[Tensor | None]]]]:
    """List, for each use of a formula, what each of its terms adds to all gradients."""
    for formula in FORMULAS:
        for use in formula.uses(evidence):
            columns = []
            for term in formula.terms:
                made = use.gradients(term.evaluate(use).expand_as(use.u))
                pairs = zip(made, evidence.expected, strict=True)
                columns.append([None if a is None else a - b for a, b in pairs])
            yield formula, use, columns


def _describe_terms(formula: Formula, use: Use, factors: list[float]) -> str:
    """Say which terms are multiplied by what; "" if all by one number."""
    changed = [
        f"{term.name} multiplied by {_write(factor)}"
        for term, factor in zip(formula.terms, factors, strict=True)
        if abs(factor - 1) > ROUND
    ]
    return " and ".join(changed) if 0 < len(changed) < len(factors) else ""


def _write(number: float) -> str:
    for n in range(2, 200):
        if abs(number * n - 1) < ROUND * n and abs(number) < 1:
            return f"1/{n}"
    return f"{number:.6g}"


def _change_powers(evidence: Evidence) -> Iterator[Guess]:
    """Give a term another power of the scale, such as 1/std."""
    for formula in (NORM, RMS_NORM):
        for use in formula.uses(evidence):
            for term in formula.terms:
                right = term.evaluate(use)
                for power in _POWERS:
                    if power:
                        error = right * (use.scale**power - 1)
                        yield Guess(use.gradients(error.expand_as(use.u)), {"what": term.name})


def _fit_slopes(evidence: Evidence) -> Iterator[Guess]:
    """Write an activation's derivative as another polynomial in its output."""
    for tape, calls, at in list_groups(evidence):
        if at not in ("tanh", "sigmoid") or not is_function(Local(tape, calls[0], 0, [], [])):
            continue
        found = [attempt(tape, calls, partial(_take_power, n)) for n in range(3)]
        zero = attempt(tape, calls, partial(_take_power, None))
        if zero is None or any(f is None for f in found):
            continue
        yield from _fit_one(evidence, tape, calls, at, [f for f in found if f is not None], zero)


def _take_power(
    n: int | None, call: Call, gs: list[Tensor], right: list[Tensor]
) -> list[Tensor | None]:
    if n is None:
        return [torch.zeros_like(right[0])]
    return [gs[0] * call.outputs[0].detach() ** n]


def _fit_one(
    evidence: Evidence,
    tape: Tape,
    calls: Sequence[Call],
    at: str,
    powers: list[list[Tensor]],
    zero: list[Tensor],
) -> Iterator[Guess]:
    for i, (given, right) in enumerate(evidence.pairs()):
        if given.shape != right.shape:
            continue
        solved = _solve(given - zero[i], [power[i] - zero[i] for power in powers])
        if solved is None:
            continue
        wrong = _polynomial(solved[1])
        own = {"tanh": "1 - y^2", "sigmoid": "y - y^2"}[at]
        if wrong and wrong != own:
            said = {**describe(tape, calls, at), "wrong": wrong, "own": own}
            yield guess_alone(evidence, i, zero[i] + solved[0], **said)


def _polynomial(coefficients: list[float]) -> str:
    """Write a polynomial in y; "" if a coefficient is no number that a formula would have."""
    terms = []
    for c, name in zip(coefficients, ("", "y", "y^2"), strict=True):
        near = round(c * 2) / 2
        if abs(c - near) > ROUND or abs(near) > 4:
            return ""
        if near:
            size = "" if abs(near) == 1 and name else f"{abs(near):g}"
            terms.append(f"{'-' if near < 0 else '+'} {' '.join(filter(None, (size, name)))}")
    return " ".join(terms).removeprefix("+ ") or "0"


def _add_array(evidence: Evidence) -> Iterator[Guess]:
    """Add a multiple of an array to its gradient, as a weight decay does."""
    if first_not_linear(evidence.sample, Key(8)) is not None:
        return
    for i, (given, right) in enumerate(evidence.pairs()):
        array = evidence.sample.arrays[i]
        if given.shape == right.shape and bool(array.any()):
            solved = _solve(given - right, [array])
            if solved is not None:
                name = evidence.sample.names[i].removeprefix("d")
                said = {"k": f"{solved[1][0]:.6g}", "name": name}
                yield guess_alone(evidence, i, right + solved[0], **said)


HYPOTHESES = [
    Hypothesis("further term", "has the further term {k} {name}, which forward does not have: "
               "a weight decay?", _add_array, Cost.FITTED),
    Hypothesis("terms' factors", "has {what}", _fit_terms, Cost.FITTED),
    Hypothesis("wrong power", "has a wrong power of the standard deviation in {what}",
               _change_powers, Cost.FITTED),
    Hypothesis("formula", "has {wrong} in place of the derivative of {at}(), which is {own}",
               _fit_slopes, Cost.FITTED),
]  # fmt: skip
