"""Judge a gradient written in numpy, by equality of exact numbers, and find the line that is wrong.

This runs in the page "Prove a gradient", as `numpy_trial` does.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy_trial import FILE, Example, Trace, Trial

from lincoln_fn.testing.exact.field import FREE, TIE, MissingError, small_ratio

SEEDS = 1, 2
# Central differences are as wrong as this; a mistake is larger.
STEP, TOLERANCE = 1e-5, 1e-6
# The derivative along a direction, and what a gradient says that it is.
Pair: TypeAlias = "tuple[int, int]"
# The names of the gradient of `var`.
OF = "d", "d_", "grad_", "g_", "g"
NO_ROOT = "some numbers have no root in the field"
BELOW_ROUNDING = "exact numbers differ, and floats see no difference"


def _of_argument(example: Example, name: str, seed: int, free: bool) -> Pair:
    trial = Trial(example, seed, free, name)
    return trial.slope(), trial.claimed()


def _of_local(
    example: Example, name: str, local: str, count: int, seed: int, free: bool
) -> Pair | None:
    """Hold a local of backward against the gradient of an argument, or of a local of forward."""
    trace = Trace((name, count))
    trial = Trial(example, seed, free, "" if count else name, trace)
    tangent = trace.tangent if count else trial.tangents[name]
    value = trace.backward[local][1]
    if tangent is None or np.shape(value) != np.shape(tangent):
        return None
    return trial.slope(), trial.product(value, tangent)


def _told(pair_of: Callable[[int, bool], Pair | None], ways: Sequence[bool]) -> str:
    """Say how a gradient differs; "" if it is right, or not known."""
    for free in ways:
        pair = pair_of(SEEDS[0], free)
        if pair is None or pair[0] == pair[1]:
            return ""
        others = filter(None, (pair_of(seed, free) for seed in SEEDS[1:]))
        times = small_ratio([pair, *others])
        if times is not None:
            wrong_sign = "has the wrong sign: it " if times == -1 else ""
            return f"{wrong_sign}is {times} times the gradient"
    return "is not the gradient"


def _wrong_line(example: Example, wrong: Sequence[str], ways: Sequence[bool]) -> tuple[int, str]:
    """Find the first local of backward that is not the gradient that its name says."""
    trace = Trace()
    Trial(example, SEEDS[0], False, "", trace)
    # What a line assigns more than once, in a loop, is no gradient of one value.
    counts = {name: len(lines) for name, (lines, _) in trace.forward.items() if _once(lines)}
    counts.update(dict.fromkeys(example.arrays, 0))
    right = {name for name in example.arrays if name not in wrong}
    for local, (lines, _) in trace.backward.items():
        # In a loop, what is wrong may be what the round before has left.
        if local in trace.arguments or (len(wrong) > 1 and not _once(lines)):
            continue
        names = {local[len(d) :] for d in OF if local.startswith(d)} & counts.keys()
        for name in names - right:
            told = _told(partial(_of_local, example, name, local, counts[name]), ways)
            if told:
                return lines[-1], f"{local} {told} of {name}"
    return trace.returned if trace.returned in example.returns else 0, ""


def _once(lines: list[int]) -> bool:
    return len(set(lines)) == len(lines)


def _is_wrong_for_floats(example: Example, name: str, seed: int) -> bool:
    """Compare a gradient with central differences along a random direction."""
    random = np.random.default_rng(seed)
    along = random.standard_normal(example.arrays[name].shape)

    def run(step: float) -> tuple[float, Any]:
        moved = {**example.arrays, name: example.arrays[name] + step * along}
        y, g, given = example.run_floats(moved, seed + 1)
        total = float(sum(np.sum(a * b) for a, b in zip(g, y, strict=True)))
        return total, given[name]

    (ahead, _), (behind, _), (_, given) = run(STEP), run(-STEP), run(0.0)
    slope, claimed = (ahead - behind) / (2 * STEP), float(np.sum(given * along))
    size = max(abs(slope), float(np.sum(np.abs(given * along))), 1e-3)
    return not abs(slope - claimed) <= TOLERANCE * size


def _shapes(example: Example) -> str:
    """Hold what gets no gradient, and say which gradient has another shape than its array."""
    *_, given = example.run_floats(example.arrays, 0)
    example.held = example.arrays.keys() - given.keys()
    for name, gradient in given.items():
        array = example.arrays[name]
        if gradient is None or np.shape(gradient) != array.shape:
            got = "is None" if gradient is None else f"has the shape {np.shape(gradient)}"
            return f"d{name} {got}; {name} has the shape {array.shape}"
    return ""


def judge(source: str, arguments: str) -> dict[str, Any]:
    """Judge functions.

    Args:
        source: the code.
        arguments: as in a call: a tuple is the shape of an array of random numbers, a list is an
            array as it is, and all else is an option.

    Returns:
        The verdict, sentences, and the line that is wrong, which is 0 if it is not known.
    """
    try:
        return _judged(Example(source, arguments))
    except MissingError as error:
        return _verdict("undecided", [str(error)])
    except SyntaxError as error:
        return _verdict("not run", [f"line {error.lineno}: {error.msg}"], error.lineno or 0)
    except Exception as error:  # a student's code raises anything
        frames = traceback.extract_tb(error.__traceback__)
        line = next((each.lineno for each in reversed(frames) if each.filename == FILE), 0) or 0
        place = f"line {line} raises " if line else ""
        return _verdict("not run", [f"{place}{type(error).__name__}: {error}"], line)


def _verdict(verdict: str, says: list[str], line: int = 0) -> dict[str, Any]:
    return {"verdict": verdict, "says": says, "line": line}


def _judged(example: Example) -> dict[str, Any]:
    if told := _shapes(example):
        return _verdict("refuted", [told])
    held = [f"{name} gets no gradient, and is held" for name in sorted(example.held)]
    names = [name for name in example.arrays if name not in example.held]
    notes: set[str] = set()
    for free in (False, True):
        trials = [Trial(example, seed, free) for seed in SEEDS]
        found = {note for trial in trials for note in trial.field.notes}
        if all(trial.slope() == trial.claimed() for trial in trials):
            leaves = ", ".join(f"d{name}" for name in names)
            assumed = [f"assumed: {note}" for note in sorted(found)]
            told = f"{leaves}: the derivative of {example.forward}"
            return _verdict("proven", [told, *held, *assumed])
        notes |= found
        if FREE not in found:
            break
    if TIE in notes:
        return _verdict("undecided", [TIE])
    wrong = [
        name for name in names
        if any(_is_wrong_for_floats(example, name, seed) for seed in SEEDS)
    ]  # fmt: skip
    if not wrong:
        return _verdict("undecided", [NO_ROOT if FREE in notes else BELOW_ROUNDING])
    ways = (False, True) if FREE in notes else (False,)
    line, told = _wrong_line(example, wrong, ways)
    others = [name for name in wrong if not told.startswith(f"d{name} ")]
    says = [f"d{name} {_told(partial(_of_argument, example, name), ways)}" for name in others]
    return _verdict("refuted", [f"line {line}: {told}", *says] if told else says, line)


def judge_json(source: str, arguments: str) -> str:
    """Judge functions, and write the verdict as JSON."""
    return json.dumps(judge(source, arguments))
