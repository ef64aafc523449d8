"""The lines of backward where its values part from the right gradients of forward's operations.

Each value that a line assigns is put in the place of a right gradient, or of a value of forward, in
turn. Where the gradients that backward returns become right by that, the line should have given
it. The first such line is told. Where a line makes the values of later lines right, and not yet
what is returned, it is one of two mistakes, and the rest is looked at with its right value.
"""

from __future__ import annotations

import attrs
from torch import Tensor

from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence, Known, Run
from lincoln_fn.testing.lines import MOST, Place

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

    # None for a gradient that backward returns.
    place: Place | None
    # The number of what is known, and whether its rounds are met in the opposite order.
    which: int
    turned: bool = False
    is_constant: bool = False

    def series(self, evidence: Evidence) -> list[Tensor]:
        """List what the line should have given, in its order."""
        known = self.known(evidence)
        found = known.values if self.is_constant else known.gradients
        return [right.detach() for right in (found[::-1] if self.turned else found)]

    def given(self, run: Run, count: int) -> list[Tensor]:
        """List what it gave: as many values as there should be, the last one if that is one."""
        if self.place is None:
            return [run.given[self.which]]
        values = run.trace.values.get(self.place, [])
        return values[-1:] if count == 1 else values

    def known(self, evidence: Evidence) -> Known:
        """Return what the line should have given."""
        return evidence.known[self.which]

    def describe(self, evidence: Evidence) -> str:
        """Name the line and what it assigns."""
        assert self.place is not None
        place, known = self.place, self.known(evidence)
        is_long = len(place.source) > LONGEST
        what = place.target or ("what it returns" if is_long else f"`{place.source}`")
        role = f"forward's {known.said}" if self.is_constant else f"the gradient of {known.said}"
        return f"line {place.line}: {what}, {role},"


class Runs:
    """Runs of backward, each with one line that gives what it may should have given."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.order = {place: n for n, place in enumerate(evidence.steps.values)}
        most = min(MOST_RUNS, MOST_LINES // (1 + sum(evidence.steps.counts.values())))
        runs = ((step, run_with(step, evidence)) for step in _candidates(evidence)[:most])
        self.tried = [(step, run) for step, run in runs if run is not None]

    def first(self, i: int) -> Step | None:
        """Find the first line that alone makes a gradient right."""
        expected = self.evidence.expected[i]
        found = [step for step, run in self.tried if close(run.given[i], expected)]
        return min(found, key=self._place, default=None)

    def before(self, i: int, last: Step | None) -> list[tuple[int, Step]]:
        """List lines before the last wrong one, those that make most others right first."""
        end = self._place(last) if last is not None else len(self.order)
        own = self.evidence.own.given[i]
        found = [
            (self._made_right(step, run), step)
            for step, run in self.tried
            if self._place(step) < end and not step.is_constant and not close(run.given[i], own)
        ]
        return sorted(found, key=lambda row: (-row[0], self._place(row[1])))

    def _made_right(self, step: Step, run: Run) -> int:
        """Count the gradients, and the values of other lines, that a right line makes right."""

        def right(run: Run) -> int:
            leaves = zip(run.given, at.expected, strict=True)
            count = sum(close(given, right) for given, right in leaves)
            for place, values in run.trace.values.items():
                if place.target and not place.is_argument and place != step.place:
                    count += any(known.fits(values) for known in at.known)
            return count

        at = self.evidence
        return right(run) - right(at.own)

    def _place(self, step: Step) -> int:
        assert step.place is not None
        return self.order[step.place]


def _candidates(evidence: Evidence) -> list[Step]:
    """List lines with what they may should have given, the likely ones first."""
    ranked: list[tuple[int, float, Step]] = []
    for place, values in evidence.steps.values.items():
        called = [k for k in evidence.known if _is_called(place.target, k.name)]
        is_constant = place in evidence.constants and not called
        count, shape = evidence.steps.counts[place], values[-1].shape
        # Of forward's values, one that is called as there is right.
        same_name = [k for k in evidence.known if k.name == place.target]
        once = [k for k in called if len(k.gradients) == 1]
        alike = same_name if is_constant else once or evidence.known
        own = [k for k in called if k.calls and k.gradients[0].shape == shape] or evidence.known
        if place.is_argument or any(k.fits(values, of_value=is_constant) for k in alike):
            continue
        for which, k in enumerate(evidence.known):
            series = k.values if is_constant else k.gradients
            may_be_other = place.target.isidentifier() and (k in called or not k.calls)
            if k not in own or len(series) not in (1, count) or (count > MOST and len(series) > 1):
                continue
            is_other = any(s.shape != shape for s in series)
            if is_other and not may_be_other:
                continue
            rank = 0 if k in called else 1 + is_other
            for turned in (True, False) if len(series) > 1 else (False,):
                likeness = _likeness(values[0], series[-1 if turned else 0])
                ranked.append((rank, -likeness, Step(place, which, turned, is_constant)))
    return [step for *_, step in sorted(ranked, key=lambda row: row[:2])]


def _likeness(value: Tensor, right: Tensor) -> float:
    """Return the cosine between two gradients: a wrong one is often like the right one."""
    if value.shape != right.shape or not value.numel():
        return 0.0
    product = abs(float((value * right.detach()).sum()))
    return round(product / (float(value.norm() * right.detach().norm()) or 1.0), DIGITS)


def _is_called(target: str, name: str) -> bool:
    """Return whether a value is called the gradient of another, such as dvar, d_var or grad_var."""
    target = target.rpartition(".")[2]
    return any(target == f"{d}{name}" for d in ("d", "d_", "grad_", "g_", "g"))


def run_with(step: Step, evidence: Evidence) -> Run | None:
    """Run backward with what a line should have given; None if it fails."""
    assert step.place is not None
    series = step.series(evidence)
    count = evidence.steps.counts.get(step.place, 1)
    which = range(count) if step.is_constant else [count - 1]
    new = dict(enumerate(series)) if len(series) > 1 else dict.fromkeys(which, series[0])
    return evidence.run(evidence.sample.g, {step.place: new})
