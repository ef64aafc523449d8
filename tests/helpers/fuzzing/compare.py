"""Runs of one trial: eager, compiled and in float64, and whether the compiled one is off.

A compiled run may be as far from the exact numbers as eager runs are, times `SLACK`. Eager runs
start from the given numbers and from some that differ in their last bits, so that a network that
multiplies rounding errors raises no alarm.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import torch

import lincoln_fn as lf
from helpers.fuzzing.runs import Number, Runs
from helpers.fuzzing.trial import Trial

SLACK = 10
# In units of the dtype's rounding error, relative to a leaf's largest number.
FLOOR = 16
CHAOTIC = 0.01


class Outcome(NamedTuple):
    """What a trial came to: "same", "refused" by the eager step, or "differs"; and the reason.

    `is_chaotic` says that eager runs themselves are so far apart that little was compared.
    """

    kind: str
    reason: str = ""
    is_chaotic: bool = False


def outcome(trial: Trial, compiled: Callable[[Any], Any] = lf.compile) -> Outcome:
    """Run a trial, and compare."""
    before = torch.get_num_threads()
    torch.set_num_threads(trial.threads)
    try:
        return _outcome(trial, compiled)
    finally:
        torch.set_num_threads(before)


def _outcome(trial: Trial, compiled: Callable[[Any], Any]) -> Outcome:
    try:
        state = trial.state()
        batches = trial.batches(state)
        runs = Runs(trial, state, batches)
        near = [runs.eager(), *map(runs.shaken, range(2))]
        # Here 0 - 0 and nan - nan are nan.
        if not all(number.leaf.isfinite().all() for number in (*runs.exact, *near[0])):
            return Outcome("refused", "numbers that are not finite")
    except lf.LayerError as error:
        # What a layer did not foresee is an error of the layer.
        return Outcome("differs" if " raised " in str(error) else "refused", f"eager: {error}")
    try:
        given = runs.of(compiled)
        problem = difference(given, runs.exact, near)
        if problem:
            problem = difference(given, runs.exact, [*near, *map(runs.shaken, range(2, 24))])
    except Exception as error:  # whatever is raised is a finding
        return Outcome("differs", f"{type(error).__name__}: {str(error)[:2000]}")
    return Outcome("differs" if problem else "same", problem, is_chaotic(runs.exact, near))


def difference(given: list[Number], exact: list[Number], near: list[list[Number]]) -> str:
    """Tell the first leaf that is off, and by how much; "" if none is."""
    if [number.place for number in given] != [number.place for number in exact]:
        return f"other leaves: {sorted({n.place for n in given} ^ {n.place for n in exact})[:5]}"
    for i, (place, leaf) in enumerate(given):
        right, ours = exact[i].leaf, near[0][i].leaf
        if (leaf.shape, leaf.dtype) != (ours.shape, ours.dtype):
            return f"{place}: {leaf.dtype}{tuple(leaf.shape)}, not {ours.dtype}{tuple(ours.shape)}"
        if not leaf.is_floating_point():
            if not torch.equal(leaf, ours):
                return f"{place}: {leaf.flatten()[:5].tolist()}, not {ours.flatten()[:5].tolist()}"
            continue
        off = distance(leaf, right)
        spread = max(distance(run[i].leaf, right) for run in near)
        eps = torch.finfo(ours.dtype).eps if ours.dtype is not torch.float64 else 1e-15
        allowed = SLACK * spread + FLOOR * eps * (largest(right) + 0.01)
        if not off <= allowed:
            return (
                f"{place}: off by {off:.3g}, eager runs by {spread:.3g}, largest number "
                f"{largest(right):.3g}"
            )
    return ""


def distance(leaf: torch.Tensor, other: torch.Tensor) -> float:
    return largest(leaf.double() - other.double())


def largest(leaf: torch.Tensor) -> float:
    return leaf.abs().max().item() if leaf.numel() else 0.0


def is_chaotic(exact: list[Number], near: list[list[Number]]) -> bool:
    """Tell whether eager runs are so far apart that the comparison says little."""
    pairs = [(number.leaf, [run[i].leaf for run in near]) for i, number in enumerate(exact)]
    return any(
        max(distance(other, leaf) for other in others) > CHAOTIC * (largest(leaf) + 1e-6)
        for leaf, others in pairs
        if leaf.is_floating_point()
    )


def smaller(trial: Trial, compiled: Callable[[Any], Any] = lf.compile) -> Trial:
    """Leave layers out of a failing trial while it fails."""
    found = True
    while found:
        found = False
        for i in range(len(trial.body)):
            body = (*trial.body[:i], *trial.body[i + 1 :])
            less = attrs.evolve(trial, body=body)
            if (body or trial.head) and outcome(less, compiled).kind == "differs":
                trial, found = less, True
                break
    return trial
