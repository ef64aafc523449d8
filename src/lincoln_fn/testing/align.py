"""The line of backward where its values part from the right gradients of forward's operations.

Each value that a line assigns is put in the place of a right gradient, or of a value of forward, in
turn. Where the gradients that backward returns become right by that, the line should have given
it. The first such line is told.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection

import attrs
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence, Known
from lincoln_fn.testing.lines import MOST, Place, trace_of
from lincoln_fn.testing.sample import copies

# A longer line is not quoted.
LONGEST = 60
# So often is backward run again, and not for more lines than these.
MOST_RUNS = 60
MOST_LINES = 8_000
# Of two that are as alike up to these digits, the one that is known first is tried first.
DIGITS = 6


@attrs.frozen(eq=False)
class Step:
    """A line of backward that should have given what is known."""

    place: Place
    # The number of what is known, and whether its rounds are met in the opposite order.
    which: int
    turned: bool
    is_constant: bool

    def series(self, evidence: Evidence) -> list[Tensor]:
        """List what the line should have given, in its order."""
        known = self.known(evidence)
        found = known.values if self.is_constant else known.gradients
        return found[::-1] if self.turned else found

    def known(self, evidence: Evidence) -> Known:
        """Return what the line should have given."""
        return evidence.known[self.which]

    def describe(self, evidence: Evidence) -> str:
        """Name the line and what it assigns."""
        place, known = self.place, self.known(evidence)
        is_long = len(place.source) > LONGEST
        what = place.target or ("what it returns" if is_long else f"`{place.source}`")
        role = f"forward's {known.name}" if self.is_constant else f"the gradient of {known.name}"
        return f"line {place.line}: {what}, {role},"


def find_steps(evidence: Evidence, wrong: Collection[int]) -> dict[int, Step]:
    """Find for wrong gradients the first line that should have given something else."""
    found: dict[int, Step] = {}
    order = {place: n for n, place in enumerate(evidence.steps.values)}
    runs = min(MOST_RUNS, MOST_LINES // (1 + sum(evidence.steps.counts.values())))
    for step in _candidates(evidence):
        left = [i for i in wrong if i not in found or order[step.place] < order[found[i].place]]
        if not left:
            continue
        runs -= 1
        if runs < 0:
            break
        given = _gradients_with(step, evidence)
        if given is not None:
            found |= {i: step for i in left if close(given[i], evidence.expected[i])}
    return found


def _candidates(evidence: Evidence) -> list[Step]:
    """List lines with what they may should have given, the likely ones first."""
    ranked: list[tuple[int, float, Step]] = []
    for place, values in evidence.steps.values.items():
        is_constant = place in evidence.constants
        count, shape = evidence.steps.counts[place], values[-1].shape
        if not is_constant and any(k.fits(values) for k in evidence.known):
            continue
        for which, k in enumerate(evidence.known):
            series = k.values if is_constant else k.gradients
            is_named = not is_constant and _is_called(place.target, k.name)
            may_be_other = place.target.isidentifier() and (is_named or not k.calls)
            if len(series) not in (1, count) or (count > MOST and len(series) > 1):
                continue
            is_other = any(s.shape != shape for s in series)
            if is_other and not may_be_other:
                continue
            rank = 0 if is_named else 1 + is_other
            for turned in (True, False) if len(series) > 1 else (False,):
                likeness = _likeness(values[0], series[-1 if turned else 0])
                ranked.append((rank, -likeness, Step(place, which, turned, is_constant)))
    return [step for *_, step in sorted(ranked, key=lambda row: row[:2])]


def _likeness(value: Tensor, right: Tensor) -> float:
    """Return the cosine between two gradients: a wrong one is often like the right one."""
    if value.shape != right.shape or not value.numel():
        return 0.0
    product = float((value * right.detach()).sum().abs())
    return round(product / (float(value.norm() * right.detach().norm()) or 1.0), DIGITS)


def _is_called(target: str, name: str) -> bool:
    """Return whether a value is called the gradient of another, such as dvar, d_var or grad_var."""
    target = target.rpartition(".")[2]
    return any(target == f"{d}{name}" for d in ("d", "d_", "grad_", "g_", "g"))


def _gradients_with(step: Step, evidence: Evidence) -> list[Tensor] | None:
    """Run backward with what the line should have given."""
    at, series = evidence.sample, [s.detach() for s in step.series(evidence)]
    count = evidence.steps.counts[step.place]
    if len(series) == 1:
        at_which = range(count) if step.is_constant else (count - 1,)
        new = dict.fromkeys(at_which, series[0])
    else:
        new = dict(enumerate(series))
    returned: list[list[Tensor]] = []

    def run() -> None:
        dx, dparams = at.layer.backward(*copies(at.params, at.cache, at.g))
        returned.append(tree.leaves({"dparams": dparams, "dx": dx}))

    # What is put in its place may not fit, in any way: x.T of one axis warns, say.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trace_of(run, {step.place: new})
    except Exception:
        return None
    fits = returned and len(returned[0]) == len(evidence.expected)
    return returned[0] if fits else None
