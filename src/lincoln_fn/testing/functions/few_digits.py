"""Whether gradients have the right values, of a function that takes no float64.

It is held against a reference in float64. The allowed error is what its dtype and the reference in
that dtype make. Without a reference, differences in float32 see only gross mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from lincoln_fn.core import Key, keys
from lincoln_fn.testing.diagnosis import Finding, GradientError, Report
from lincoln_fn.testing.functions.function import (
    Function,
    RefusedError,
    Run,
    referred,
    size_of,
)

# Kernels may multiply with 11 bits, as tensor cores do.
OF_KERNELS = 1e-3
# So many roundings, and so many times the error of a reference in the same dtype, are allowed.
ROUNDINGS, TIMES = 16, 8
# What differences see: so large a part of the slope, with steps of these parts of the inputs.
COARSE, STEPS = 0.05, (1e-2, 2.5e-3)
DIRECTIONS = 9
# Differences need an eps below this.
FINE = 1e-6


def by_reference(
    f: Function,
    reference: Callable[..., object],
    g: Sequence[Tensor],
    right: Sequence[Tensor],
) -> Report:
    """Compare gradients with the right ones, and with a reference's in the same dtype."""
    given, errors = f.run().gradients(g), [0.0] * len(right)
    with suppress(RefusedError, GradientError):  # a reference may not take this dtype
        low = referred(f, reference).run().gradients(g)
        errors = list(map(error_of, low, right))
    findings = []
    for n, leaf in enumerate(f.leaves):
        eps, part = torch.finfo(given[n].dtype).eps, tolerance(given[n].dtype)
        allowed = part * size_of(right[n]) + eps * max(map(size_of, right)) + TIMES * errors[n]
        is_right = error_of(given[n], right[n]) <= allowed
        findings.append(_finding(f, n, "" if is_right else _how(given[n], right[n])))
    return Report(f.name, tuple(findings))


def by_differences(f: Function, key: Key) -> Report:
    """Compare gradients with differences of forward in its own dtype."""
    run = f.run()
    dtype = run.y[0].dtype
    if torch.finfo(dtype).eps > FINE:
        findings = tuple(Finding("", f.name, leaf, "not judged") for leaf in f.leaves)
        return Report(f.name, findings, (f"{_short(dtype)} has too few digits: give a reference",))
    g = run.cotangent(key)
    given = run.gradients(g)
    told = []
    for n in range(len(f.leaves)):
        draws = key.fold_in(n).split(DIRECTIONS)
        ratios = [_ratio(f, run, g, given[n], n, draw) for draw in draws]
        wrong = [ratio for ratio in ratios if ratio is not None]
        # A wrong gradient agrees in some directions by chance, a right one not at a kink.
        if len(wrong) < DIRECTIONS // 3:
            told.append("")
            continue
        least, largest = min(wrong), max(wrong)
        is_factor = largest - least < COARSE * abs(least)
        told.append(f"is {least:.2g} times the derivative" if is_factor else "is wrong")
    remark = f"differences in {_short(dtype)} see no mistake below 5 %: give a reference"
    findings = tuple(_finding(f, n, how) for n, how in enumerate(told))
    return Report(f.name, findings, (remark,))


def _finding(f: Function, n: int, how: str) -> Finding:
    leaf = f.leaves[n]
    if not how:
        return Finding("", f.name, leaf, "right")
    told = f"{f.name}: {leaf} {how}{f.look(n)}"
    return Finding("", f.name, leaf, "wrong", "value", told)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _ratio(
    f: Function, run: Run, g: Sequence[Tensor], given: Tensor, n: int, key: Key
) -> float | None:
    """Divide what a gradient says of a direction by differences; None if they agree."""
    drawn = keys.normal(key.near(given), tuple(given.shape), dtype=torch.float64)
    direction = drawn * run.leaves[n].detach().double().abs().clamp_min(STEPS[0])

    def moved(step: float) -> list[Tensor]:
        values = [leaf.detach() for leaf in run.leaves]
        values[n] = (values[n].double() + step * direction).to(values[n])
        outputs = f.run(f.placed(values)).y
        return [(y.detach() * c).double() for y, c in zip(outputs, g, strict=True)]

    slopes = []
    for step in STEPS:
        pairs = zip(moved(step), moved(-step), strict=True)
        slopes.append(sum(float((up - down).sum()) for up, down in pairs) / (2 * step))
    rounding = torch.finfo(given.dtype).eps / STEPS[1]
    noise = rounding * sum(float(each.abs().sum()) for each in moved(0.0))
    products = given.double() * direction
    allowed = COARSE * max(abs(slopes[1]), float(products.abs().sum()))
    said = float(products.sum())
    if abs(said - slopes[1]) <= allowed + 4 * abs(slopes[0] - slopes[1]) + 4 * noise:
        return None
    return said / slopes[1] if slopes[1] else float("inf")


def error_of_y(f: Function, reference: Callable[..., object]) -> float:
    """Compute by how much y differs from a reference's, in parts of the largest value."""
    own, right = f.run().y, referred(f, reference).in_dtype(torch.float64).run().y
    if any(a.shape != b.shape for a, b in zip(own, right, strict=True)):
        return float("inf")
    return max(error_of(a, b) / (size_of(b) or 1.0) for a, b in zip(own, right, strict=True))


def other_y(f: Function, reference: Callable[..., object]) -> str:
    """Say by how much forward computes something else than a reference; "" if it does not."""
    error, dtype = error_of_y(f, reference), f.run().y[0].dtype
    if error <= tolerance(dtype):
        return ""
    return f"forward does not compute the reference's y: it differs by {error:.2g} of the largest"


def tolerance(dtype: torch.dtype) -> float:
    """Return which error a right function of some dtype may have, in parts of the largest value."""
    return max(ROUNDINGS * torch.finfo(dtype).eps, OF_KERNELS)


def _how(given: Tensor, right: Tensor) -> str:
    """Say how a gradient differs from the right one."""
    given = given.double()
    if not bool(given.isfinite().all()):
        return "holds values that are not finite"
    size = float((right * right).sum())
    factor = float((given * right).sum()) / size if size else 0.0
    if error_of(given, factor * right) <= 0.01 * size_of(given):
        if not size_of(given):
            return "is 0, and should not be"
        return f"is {factor:.3g} times the derivative" if size else "should be 0"
    if (
        right.ndim == 2
        and right.shape[0] == right.shape[1]
        and error_of(given.mT, right) <= 0.01 * (size_of(right))
    ):
        return "is transposed"
    place = [int(i) for i in torch.unravel_index((given - right).abs().argmax(), given.shape)]
    part = error_of(given, right) / (size_of(right) or 1.0)
    return f"is wrong, most at {place}, by {part:.2g} of the largest value"


def error_of(given: Tensor, right: Tensor) -> float:
    """Return the largest difference."""
    return size_of(given.double() - right.double())
