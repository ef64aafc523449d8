"""Mistakes that need no knowledge of the layer: sign, factors, leaves swapped."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Guess, Hypothesis, alone, each


def _swapped(evidence: Evidence) -> Iterator[Guess]:
    """Give two leaves the right gradients of each other."""
    names, right, given = evidence.sample.names, evidence.expected, evidence.given
    for i in range(len(names)):
        for j in range(i):
            if close(given[j], right[i]) and close(given[i], right[j]):
                found: list[Tensor | None] = [None] * len(names)
                found[i], found[j] = right[j], right[i]
                yield Guess(found, {"first": names[j], "second": names[i]})


def _other_leaf(evidence: Evidence) -> Iterator[Guess]:
    """Give each leaf the right gradient of another."""
    names, right = evidence.sample.names, evidence.expected
    for i in range(len(names)):
        for j in range(len(names)):
            if i != j:
                yield alone(evidence, i, right[j], other=names[j])


def _averaged(evidence: Evidence) -> Iterator[Guess]:
    for n in evidence.sizes:
        yield Guess([right / n for right in evidence.expected], {"n": n})


def _summed(evidence: Evidence) -> Iterator[Guess]:
    for n in evidence.sizes if _averages(evidence) else ():
        yield Guess([right * n for right in evidence.expected], {"n": n})


def _averages(evidence: Evidence) -> bool:
    """Return whether forward divides by a count: by a mean, or written out; if it can be seen."""
    tapes = evidence.tapes[-1:]
    return not tapes or any(
        call.name in ("mean", "div", "mul", "var", "std") or "pool" in call.name
        or call.name.endswith(("loss", "cross_entropy", "entropy_with_logits", "norm"))
        for call in tapes[0].calls
    )  # fmt: skip


def _missing_factor(evidence: Evidence) -> Iterator[Guess]:
    """Leave out, or apply twice, the factors that a layer's sizes and probabilities give."""
    # A root that is an integer, such as that of 4, may stand for anything.
    sizes = [n for n in evidence.sizes if math.isqrt(n) ** 2 != n]
    factors = {f"1/sqrt({n})": 1 / math.sqrt(n) for n in sizes}
    factors |= {f"sqrt({n - 1}/{n})": math.sqrt((n - 1) / n) for n in evidence.sizes}
    p = evidence.option("p")
    if isinstance(p, float) and 0 < p < 1:
        factors = {f"1/keep = 1/(1 - {p:g})": 1 / (1 - p), f"p = {p:g}": p} | factors
    for factor, value in factors.items():
        yield Guess([r / value for r in evidence.expected], {"what": f"misses the factor {factor}"})
        yield Guess(
            [r * value for r in evidence.expected], {"what": f"has the factor {factor} twice"}
        )


def _scaled(evidence: Evidence) -> Iterator[Guess]:
    """Multiply each gradient by one number, which the submitted one gives."""
    for i, (given, right) in enumerate(evidence.pairs()):
        if given.shape != right.shape or right.numel() < 2:
            continue
        ratio = float((given * right).sum() / right.square().sum().clamp_min(1e-300))
        size = abs(ratio) if abs(ratio) > 1 else 1 / max(abs(ratio), 1e-300)
        sign = ", with the wrong sign" if ratio < 0 else ""
        scale = f"{size:.6g} times too {'large' if abs(ratio) > 1 else 'small'}{sign}"
        yield alone(evidence, i, right * ratio, scale=scale)


def _itself(evidence: Evidence) -> Iterator[Guess]:
    """Give each array of g's shape g itself."""
    for g in evidence.g:
        yield Guess([g if array.shape == g.shape else None for array in evidence.sample.arrays])


def _in_units(right: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(right)
    return right / size.clamp_min(1e-300)


EARLY = [
    Hypothesis("zero", "is zero", each(torch.zeros_like)),
    Hypothesis("sign", "has the wrong sign", each(torch.neg)),
    Hypothesis(
        "leaves swapped",
        "is the gradient of another leaf: {first} and {second} are swapped",
        _swapped,
    ),
]
AVERAGES = [
    Hypothesis(
        "averaged", "is {n} times too small: averaged where it should be summed?", _averaged
    ),
    Hypothesis("summed", "is {n} times too large: summed where it should be averaged?", _summed),
]
CHANGED = [
    Hypothesis("another leaf", "is the gradient of {other}", _other_leaf),
    Hypothesis("absolute value", "is the absolute value of the right gradient", each(torch.abs)),
    Hypothesis(
        "absolute value", "is minus the absolute value of the right gradient",
        each(lambda right: -right.abs()),
    ),
    Hypothesis("normalised", "is divided by its norm", each(_in_units)),
    Hypothesis("clipped", "is clipped to [-1, 1]", each(lambda right: right.clamp(-1, 1))),
]  # fmt: skip
FACTORS = [Hypothesis("a factor", "{what}", _missing_factor)]
DOUBLED = [
    Hypothesis("double", "is 2 times too large", each(lambda right: 2 * right)),
    Hypothesis("half", "is 2 times too small", each(lambda right: right / 2)),
]
ITSELF = [
    Hypothesis("derivative missing", "is g itself: the layer's derivative is missing", _itself),
]
LATE = [Hypothesis("scale", "is {scale}", _scaled)]
