"""Mistakes that the given params and x hide: right there, and wrong at others.

A norm gives nearly the same for x and for x / 2: what differs is due to its eps. So a layer of
which that holds has an eps, and is judged once more where x is small enough.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import attrs
from torch import Tensor

from lincoln_fn.core import Key, is_derived, named_leaves
from lincoln_fn.testing.blame import blamed, judge
from lincoln_fn.testing.contract import check_other_functions
from lincoln_fn.testing.diagnosis import Finding, GradientError, Report, close_trees
from lincoln_fn.testing.oracles import error_of, size_of
from lincoln_fn.testing.point import is_plainly_right
from lincoln_fn.testing.precision import Doubled
from lincoln_fn.testing.sample import Sample, floating_leaves, is_movable, perturbed, sample

# What a change of y counts as due to an eps, in parts of the largest y.
LEAST, MOST = 1e-7, 1e-3
# The part of the variance that the eps is where it counts.
PART = 0.01
_NONE: tuple[Finding, ...] = ()


def elsewhere(
    report: Report, given: Sample, own: Sample, key: Key, predict_is_forward: bool | None
) -> Report:
    """Judge a layer at other params and x, and add what is wrong there to its report."""
    key, findings = key.fold_in(1), _NONE
    other: GradientError | None = None
    moved = perturbed(given, key)
    unmoved = [
        f"{path} is checked only as given: the layer takes no other numbers"
        for path, old, new in _leaves(given, moved or given)
        if old is new and is_movable(old)
    ]
    report = attrs.evolve(report, remarks=(*report.remarks, *unmoved))
    with suppress(Exception):  # the layer may refuse other arrays in any way
        findings = _of_perturbed(moved, given, key) if moved else _NONE
        if moved and not findings:
            other = _wrong_function(moved, given, predict_is_forward)
    if other:
        raise other
    with suppress(Exception):  # the same
        findings = findings or _of_eps(given, own, key)
    if not findings:
        return report
    right = {finding.leaf: finding for finding in report.findings}
    kept = (f if f.verdict == "wrong" else right.get(f.leaf, f) for f in findings)
    return attrs.evolve(report, findings=tuple(kept))


def _wrong_at(at: Sample, key: Key, where: Callable[[Sample], str]) -> tuple[Finding, ...]:
    """Judge gradients at another point, and say where that is; () if none is wrong."""
    if is_plainly_right(at, key, 1):
        return _NONE
    at = sample(Doubled().inside(at.layer), at.params, at.x, at.g)
    findings, _ = blamed(at, key)
    if all(finding.verdict != "wrong" for finding in findings) or not (told := where(at)):
        return _NONE
    return tuple(
        attrs.evolve(f, sentence=f"{f.sentence} ({told})") if f.verdict == "wrong" else f
        for f in findings
    )


def _of_perturbed(at: Sample, given: Sample, key: Key) -> tuple[Finding, ...]:
    def where(at: Sample) -> str:
        # A mistake counts if it is one nearer to the given params and x, too: far from them a layer
        # may be outside of its domain.
        is_near = judge(at.nearer(given), key).wrong
        return _where(at, given, lambda at: is_plainly_right(at, key, 1)) if is_near else ""

    return _wrong_at(at, key, where)


def _wrong_function(
    at: Sample, given: Sample, predict_is_forward: bool | None
) -> GradientError | None:
    """Say which of grads, input_grad and predict is wrong; None if none is."""
    if all(is_derived(at.layer, function) for function in ("grads", "input_grad", "predict")):
        return None

    def problem(at: Sample) -> GradientError | None:
        try:
            check_other_functions(at, predict_is_forward)
        except GradientError as error:
            return error
        return None

    found = problem(at)
    if found is None or problem(at.nearer(given)) is None:
        return None
    where = _where(at, given, lambda at: problem(at) is None)
    return GradientError(f"{found} ({where})", found.function)


def _leaves(given: Sample, at: Sample) -> list[tuple[str, Tensor, Tensor]]:
    named = named_leaves({"params": given.params, "x": given.x}, states=True)
    return [(*old, new) for old, new in zip(named, at.leaves, strict=True)]


def _where(at: Sample, given: Sample, is_right: Callable[[Sample], bool]) -> str:
    """Say which of the given leaves hides a mistake, and where it is none."""
    moved = at.leaves
    for i, (path, old, new) in enumerate(_leaves(given, at)):
        if old is not new and is_right(at.with_leaves([*moved[:i], old, *moved[i + 1 :]])):
            first = old.flatten()[0]
            is_one = bool((old == first).all())
            where = f"where {path} is {float(first):.6g}, as" if is_one else f"at the {path}"
            return f"right {where} given; wrong at other numbers"
    return "right at the params and x given; wrong at other numbers"


def _of_eps(at: Sample, own: Sample, key: Key) -> tuple[Finding, ...]:
    """Judge gradients where x is so small that an eps counts, of a layer that has one."""
    arrays = _small(at)
    # A reference may have another eps.
    if not arrays or not close_trees(at.forward(arrays), own.forward(arrays)):
        return _NONE
    return _wrong_at(at.at(arrays), key, lambda at: "seen where x is so small that its eps counts")


def _small(at: Sample) -> list[Tensor]:
    """Make the arrays where an eps counts; [] if there is none."""
    y = floating_leaves(at.y)
    moved, is_moved = list(at.arrays), False
    for i, (name, array) in enumerate(zip(at.names, at.arrays, strict=True)):
        if not name.startswith("dx") or array.numel() < 2:
            continue
        halved = floating_leaves(at.forward([*at.arrays[:i], array / 2, *at.arrays[i + 1 :]]))
        change = max(map(error_of, halved, y), default=0.0)
        part = change / max(1e-300, *map(size_of, y))
        if LEAST < part < MOST:
            moved[i], is_moved = array * (part / 1.5 / PART) ** 0.5, True
    return moved if is_moved else []
