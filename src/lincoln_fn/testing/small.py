"""A mistake in an eps, which shows where x is so small that the eps counts.

A norm gives nearly the same for x and for x / 2: what differs is due to its eps. So a layer of
which that holds has an eps, and is judged once more where x is small enough.
"""

from __future__ import annotations

import attrs
from torch import Tensor

from lincoln_fn.core.keys import Key
from lincoln_fn.testing.held import is_held
from lincoln_fn.testing.plain import is_plainly_right
from lincoln_fn.testing.report import Finding, Report
from lincoln_fn.testing.sample import Sample, floating_leaves

# What a change of y counts as due to an eps, in parts of the largest y.
LEAST, MOST = 1e-11, 1e-3
# The part of the variance that the eps is where it counts.
PART = 0.01


def with_mistakes_in_eps(report: Report, at: Sample, own: Sample, key: Key) -> Report:
    """Judge a layer that has an eps where x is small, and add what is wrong there to its report."""
    try:
        arrays = _smaller(at)
        if not arrays or (is_held(at) and not _agree(at, own, arrays)):
            return report
        small = at.at(arrays)
        if is_plainly_right(small, key, 1):
            return report
        # Code that passes the plain comparison does not import what judges.
        from lincoln_fn.testing.blame import blamed

        findings, _ = blamed(small, key, None)
    except Exception:  # the layer may refuse other numbers in any way
        return report
    right = {finding.leaf: finding for finding in report.findings}
    kept = (_told(f) if f.verdict == "wrong" else right.get(f.leaf, f) for f in findings)
    return attrs.evolve(report, findings=tuple(kept))


def _told(finding: Finding) -> Finding:
    sentence = f"{finding.sentence} (seen where x is so small that its eps counts)"
    return attrs.evolve(finding, sentence=sentence)


def _smaller(at: Sample) -> list[Tensor]:
    """Make the arrays where an eps counts; [] if there is none."""
    y = floating_leaves(at.y)
    moved, is_moved = list(at.arrays), False
    for i, (name, array) in enumerate(zip(at.names, at.arrays, strict=True)):
        if not name.startswith("dx") or array.numel() < 2:
            continue
        halved = floating_leaves(at.forward([*at.arrays[:i], array / 2, *at.arrays[i + 1 :]]))
        change = _largest([a - b for a, b in zip(halved, y, strict=True)])
        part = change / max(_largest(y), 1e-300)
        if LEAST < part < MOST:
            moved[i], is_moved = array * (part / 1.5 / PART) ** 0.5, True
    return moved if is_moved else []


def _largest(arrays: list[Tensor]) -> float:
    return max((float(a.abs().max()) for a in arrays if a.numel()), default=0.0)


def _agree(at: Sample, own: Sample, arrays: list[Tensor]) -> bool:
    """Return whether a reference has the layer's own output for the smaller numbers, too."""
    pairs = zip(
        floating_leaves(at.forward(arrays)), floating_leaves(own.forward(arrays)), strict=True
    )
    return all(bool((a - b).abs().max() <= 1e-7 * b.abs().max()) for a, b in pairs)
