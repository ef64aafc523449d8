"""Whether gradients have the right values, of a function that takes no float64.

It is held against a reference in float64. The allowed error is what its dtype and the reference in
that dtype make. Without a reference, differences in float32 see only gross mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from lincoln_fn.core import Key, keys
from lincoln_fn.testing.contract import not_finite
from lincoln_fn.testing.diagnosis import Finding, GradientError, Report
from lincoln_fn.testing.explain import worst_place
from lincoln_fn.testing.functions.function import Function, RefusedError, size_of
from lincoln_fn.testing.oracles import least_slope, scales, steady_slope

# Kernels may multiply with 11 bits, as tensor cores do.
OF_KERNELS = 1e-3
# So many roundings, and so many times the error of a reference in the same dtype, are allowed.
ROUNDINGS, TIMES = 16, 8
# What differences see: so large a part of the slope, with steps of these parts of the inputs.
COARSE, STEPS = 0.05, (1e-2, 2.5e-3)
DIRECTIONS = 9
# Differences need an eps below this.
FINE = 1e-6
# A gradient that differs by a smaller part from another is that one.
ALIKE = 0.01


def by_reference(f: Function, of: Function, g: Sequence[Tensor], right: Sequence[Tensor]) -> Report:
    """Compare gradients with the right ones, and with a reference's in the same dtype."""
    given, errors = f.run().gradients(g), [0.0] * len(right)
    with suppress(RefusedError, GradientError):  # a reference may not take this dtype
        errors = list(map(error_of, of.run().gradients(g), right))
    largest, told = max(map(size_of, right)), []
    for a, b, error in zip(given, right, errors, strict=True):
        eps = torch.finfo(a.dtype).eps
        allowed = tolerance(a.dtype) * size_of(b) + eps * largest + TIMES * error
        told.append("" if error_of(a, b) <= allowed else _how(a.double(), b))
    return _report(f, told)


def by_differences(f: Function, key: Key) -> Report:
    """Compare gradients with differences of forward in its own dtype."""
    run = f.run()
    dtype = run.y[0].dtype
    if torch.finfo(dtype).eps > FINE:
        findings = tuple(Finding("", f.name, leaf, "not judged") for leaf in f.leaves)
        return Report(f.name, findings, (f"{short(dtype)} has too few digits: give a reference",))
    g, arrays = run.cotangent(key), [leaf.detach().double() for leaf in run.leaves]

    def forward(moved: Sequence[Tensor]) -> list[Tensor]:
        values = [new.to(leaf) for new, leaf in zip(moved, run.leaves, strict=True)]
        return [y.detach().double() for y in f.at(f.placed(values)).run().y]

    unseen = 4 * least_slope(forward(arrays), g, torch.finfo(dtype).eps / STEPS[-1])

    def ratio(given: Tensor, n: int, draw: Key) -> float | None:
        """Divide what a gradient says of a direction by differences; None if they agree."""
        drawn = keys.normal(draw.near(given), tuple(given.shape), dtype=torch.float64)
        direction = drawn * scales(arrays[n])
        slope, change = steady_slope(forward, arrays, n, direction, g, steps=STEPS)
        products = given.double() * direction
        said, size = float(products.sum()), max(abs(slope), float(products.abs().sum()))
        if abs(said - slope) <= COARSE * size + 4 * change + unseen:
            return None
        return said / slope if slope else float("inf")

    told = []
    for n, given in enumerate(run.gradients(g)):
        ratios = [ratio(given, n, draw) for draw in key.fold_in(n).split(DIRECTIONS)]
        wrong = [each for each in ratios if each is not None]
        # A wrong gradient agrees in some directions by chance, a right one not at a kink.
        if len(wrong) < DIRECTIONS // 3:
            told.append("")
            continue
        is_factor = max(wrong) - min(wrong) < COARSE * abs(min(wrong))
        how = f"is {min(wrong):.2g} times the derivative" if is_factor else "is wrong"
        told.append(not_finite(given) or how)
    remark = f"differences in {short(dtype)} see no mistake below 5 %: give a reference"
    return _report(f, told, remark)


def _report(f: Function, told: Sequence[str], *remarks: str) -> Report:
    """Make the report of what is told of each gradient; "" of a right one."""
    findings = [
        Finding("", f.name, leaf, "wrong", "value", f"{f.name}: {leaf} {how}{f.look(n)}")
        if how
        else Finding("", f.name, leaf, "right")
        for n, (leaf, how) in enumerate(zip(f.leaves, told, strict=True))
    ]
    return Report(f.name, tuple(findings), remarks)


def _how(given: Tensor, right: Tensor) -> str:
    if told := not_finite(given):
        return told
    if not (size := size_of(right)):
        return "should be 0"
    factor, alike = float((given * right).sum() / right.square().sum()), ALIKE * size_of(given)
    if error_of(given, factor * right) <= alike:
        return f"is {factor:.3g} times the derivative"
    if right.ndim == 2 and given.mT.shape == right.shape and error_of(given.mT, right) <= alike:
        return "is transposed"
    part = error_of(given, right) / size
    return f"is wrong, most at {[*worst_place(given, right)]}, by {part:.2g} of the largest value"


def disagreement(f: Function, of: Function) -> float:
    """Compute by how much y differs from a reference's, in parts of the largest value."""
    pairs = [*zip(f.run().y, of.in_dtype(torch.float64).run().y, strict=True)]
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    return max(error_of(a, b) / (size_of(b) or 1.0) for a, b in pairs)


def tolerance(dtype: torch.dtype) -> float:
    """Return which error a right function of some dtype may have, in parts of the largest value."""
    return max(ROUNDINGS * torch.finfo(dtype).eps, OF_KERNELS)


def error_of(given: Tensor, right: Tensor) -> float:
    """Return the largest difference."""
    return size_of(given.double() - right.double())


def short(dtype: torch.dtype) -> str:
    """Name a dtype without its module."""
    return str(dtype).removeprefix("torch.")
