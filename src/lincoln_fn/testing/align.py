"""The line of backward where its values part from the right gradients of forward's operations.

Each value that a line assigns is put in the place of a right gradient, or of a value of forward, in
turn. Where the gradients that backward returns become right by that, the line should have given
it. The first such line is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import attrs
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence, Known
from lincoln_fn.testing.held import copies
from lincoln_fn.testing.lines import MOST, Place, trace_of
from lincoln_fn.testing.paths import guesses
from lincoln_fn.testing.relations import Relation, of_two, same
from lincoln_fn.testing.terms import of_factor, of_sums, of_terms

# A longer line is not quoted.
LONGEST = 60
# So often is backward run again, and not for more lines than these.
MOST_RUNS = 60
MOST_LINES = 8_000
# Two values that differ by a smaller part differ by an eps.
SLIGHTLY = 0.2
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

    try:
        trace_of(run, {step.place: new})
    except Exception:  # what is put in its place may not fit, in any way
        return None
    fits = returned and len(returned[0]) == len(evidence.expected)
    return returned[0] if fits else None


def of_step(step: Step, evidence: Evidence) -> Iterator[Relation]:
    """List what relates the value of a line to what it should be."""
    values, series = evidence.steps.values.get(step.place, []), step.series(evidence)
    if len(series) == 1:
        values = values[-1:]
    pairs = list(zip(values, series, strict=False))
    n = next((n for n, (a, b) in enumerate(pairs) if not close(a, b.detach())), None)
    if n is None:
        return
    value, right = pairs[n][0], pairs[n][1].detach()
    if step.is_constant:
        if float((value - right).abs().max()) <= SLIGHTLY * float(right.abs().max()):
            yield "eps missing", "differs slightly from it: is an eps missing?"
        yield "another value", "is another value"
        return
    yield from of_two(value, right, evidence.sizes)
    known = step.known(evidence)
    for other in evidence.known:
        if other is not known and any(same(value, gradient) for gradient in other.gradients):
            yield "another gradient", f"is the gradient of {other.name}"
    if evidence.tape is not None and known.values:
        tensor = (known.values[::-1] if step.turned else known.values)[n]
        if tensor.requires_grad:
            for name, said, (guess,) in guesses(evidence.tape, [tensor], evidence.hand):
                if same(value, guess, float(right.abs().max())):
                    yield name, said
    hand = evidence.hand if len(series) == 1 else []
    yield from of_factor(value, right, hand)
    yield from of_sums(value, right, evidence.gs, hand)
    yield from of_terms(value, right, evidence.gs, hand)
