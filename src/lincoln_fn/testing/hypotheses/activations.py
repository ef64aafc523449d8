"""Functions that work element by element, as a whole: y_i depends on x_i alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.derivatives import BY_OUTPUT
from lincoln_fn.testing.hypotheses.hypothesis import Candidates, Guess, Hypothesis, alone

# The largest degree of a derivative that is a polynomial in y: 1 - y^2, y (1 - y).
DEGREE = 2
# How well a polynomial has to fit derivatives, which may be from differences.
FIT = 1e-6


def _pointwise(wrong: Callable[[Evidence, int, Tensor, Tensor], Tensor | None]) -> Candidates:
    """Make the candidates from (evidence, i, derivative, g), for the arrays that y follows."""

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        found: list[Tensor | None] = []
        for i in range(len(evidence.expected)):
            d = evidence.derivative(i)
            found.append(None if d is None else wrong(evidence, i, d, evidence.g[0]))
        yield Guess(found)

    return candidates


def _elsewhere(evidence: Evidence, i: int, at: Tensor, g: Tensor) -> Tensor | None:
    arrays = list(evidence.sample.arrays)
    arrays[i] = at
    found = evidence.gradients(arrays)
    return found[i] if found else None


def _at_y_for_x(evidence: Evidence, i: int, d: Tensor, g: Tensor) -> Tensor | None:
    return _elsewhere(evidence, i, evidence.y[0], g)


def _at_g(evidence: Evidence, i: int, d: Tensor, g: Tensor) -> Tensor | None:
    return _elsewhere(evidence, i, g, g)


def _at_x_for_y(evidence: Evidence, i: int, d: Tensor, g: Tensor) -> Tensor | None:
    """Find the polynomial in y that the derivative is, and take it at x."""
    y, x = evidence.y[0].flatten(), evidence.sample.arrays[i].flatten()
    if y.numel() < DEGREE + 2:
        return None
    powers = torch.stack([y**n for n in range(DEGREE + 1)], -1)
    fit = torch.linalg.lstsq(powers, d.flatten().unsqueeze(-1)).solution
    if not torch.allclose(powers @ fit, d.flatten().unsqueeze(-1), rtol=FIT, atol=FIT / 100):
        return None
    at_x: Tensor = torch.stack([x**n for n in range(DEGREE + 1)], -1) @ fit
    return g * at_x.view(g.shape)


def _formula(evidence: Evidence) -> Iterator[Guess]:
    """Write both derivatives as polynomials in y, such as 1 - y and 1 - y^2."""
    for i, (given, right) in enumerate(evidence.pairs()):
        d = evidence.derivative(i)
        if d is None or given.shape != right.shape or d.numel() < 2 * (DEGREE + 2):
            continue
        y, g = evidence.y[0].flatten(), evidence.g[0].flatten()
        fits = [_polynomial(y, values) for values in (given.flatten() / g, d.flatten())]
        if all(fits) and fits[0] != fits[1] and "y" in "".join(fits):
            yield alone(evidence, i, given, wrong=fits[0], right=fits[1])


def _formula_of_branch(evidence: Evidence) -> Iterator[Guess]:
    """Write both derivatives as polynomials in y at the wrong places, if others are right."""
    for i, (given, right) in enumerate(evidence.pairs()):
        d = evidence.derivative(i)
        if d is None or given.shape != right.shape:
            continue
        is_wrong = (given - right).abs() > 1e-9 * right.abs().max()
        x, y, g = evidence.sample.arrays[i], evidence.y[0], evidence.g[0]
        if not DEGREE + 1 < int(is_wrong.sum()) < is_wrong.numel():
            continue
        fits = [_polynomial(y[is_wrong], v[is_wrong]) for v in (given / g, d)]
        if all(fits) and fits[0] != fits[1] and "y" in "".join(fits):
            where = _where(x, is_wrong)
            yield alone(evidence, i, given, wrong=fits[0], right=fits[1], where=where)


def _where(x: Tensor, is_wrong: Tensor) -> str:
    """Describe places by the sign of x, if that tells them."""
    for mask, words in ((x < 0, "where x < 0"), (x > 0, "where x > 0")):
        if torch.equal(mask, is_wrong):
            return words
    return f"in {int(is_wrong.sum())} of {is_wrong.numel()} places"


def _polynomial(y: Tensor, values: Tensor) -> str:
    """Write values as a polynomial in y times g; "" if they are none."""
    powers = torch.stack([y**n for n in range(DEGREE + 1)], -1)
    fit = torch.linalg.lstsq(powers, values.unsqueeze(-1)).solution.flatten()
    if not torch.allclose(powers @ fit, values, rtol=FIT, atol=FIT / 100):
        return ""
    terms = [(round(c, 5), ("", "y", "y^2")[n]) for n, c in enumerate(fit.tolist())]
    text = " ".join(
        f"{'-' if c < 0 else '+'} {'' if abs(c) == 1 and name else f'{abs(c):g}'} {name}"
        for c, name in terms
        if c
    )
    text = " ".join(text.removeprefix("+ ").split())
    if text in ("", "1"):
        return "g" if text else "zero"
    return f"g ({text})" if " " in text else f"g {text}"


def _two_slopes(d: Tensor) -> tuple[Tensor, Tensor] | None:
    low, high = d.min(), d.max()
    two = bool((((d - low).abs() < 1e-9) | ((d - high).abs() < 1e-9)).all())
    return (low, high) if two and low < high else None


def _inverted(evidence: Evidence, i: int, d: Tensor, g: Tensor) -> Tensor | None:
    slopes = _two_slopes(d)
    return g * (slopes[0] + slopes[1] - d) if slopes else None


def _unmasked(evidence: Evidence, i: int, d: Tensor, g: Tensor) -> Tensor | None:
    slopes = _two_slopes(d)
    return g * slopes[1] if slopes and slopes[0] == 0 else None


def _unscaled(evidence: Evidence, i: int, d: Tensor, g: Tensor) -> Tensor | None:
    slopes = _two_slopes(d)
    return g * (d != 0) if slopes and slopes[0] == 0 and slopes[1] != 1 else None


def _scaled_twice(evidence: Evidence, i: int, d: Tensor, g: Tensor) -> Tensor | None:
    slopes = _two_slopes(d)
    return g * d * d if slopes and slopes[0] == 0 and slopes[1] != 1 else None


def _keep_for_its_inverse(evidence: Evidence, i: int, d: Tensor, g: Tensor) -> Tensor | None:
    slopes = _two_slopes(d)
    return g * (d != 0) / slopes[1] if slopes and slopes[0] == 0 and slopes[1] != 1 else None


def _by_output(evidence: Evidence, i: int, d: Tensor, g: Tensor, name: str) -> Tensor:
    return g * BY_OUTPUT[name](evidence.y[0])


def _mask_of_sign(evidence: Evidence, i: int, d: Tensor, g: Tensor) -> Tensor | None:
    """Take the slopes of the other sign of x."""
    return _elsewhere(evidence, i, -evidence.sample.arrays[i], g)


FORMULA = "is {wrong}; it should be {right}"
HYPOTHESES = [
    Hypothesis(
        "derivative missing",
        "is g itself: the mask, the derivative of the activation, is missing",
        _pointwise(lambda evidence, i, d, g: g if _two_slopes(d) else None),
    ),
    Hypothesis(
        "derivative missing",
        "is g itself: the derivative of the activation is missing",
        _pointwise(lambda evidence, i, d, g: g),
    ),
    Hypothesis("mask inverted", "has the mask inverted", _pointwise(_inverted)),
    Hypothesis("mask missing", "has no mask", _pointwise(_unmasked)),
    Hypothesis(
        "scale missing", "has the mask, but misses the factor 1/keep", _pointwise(_unscaled)
    ),
    Hypothesis("scale twice", "has the factor 1/keep twice", _pointwise(_scaled_twice)),
    Hypothesis(
        "keep for 1/keep", "has the mask, but the factor keep in place of 1/keep",
        _pointwise(_keep_for_its_inverse),
    ),
    Hypothesis(
        "at y for x",
        "takes the derivative at y, where it belongs at x",
        _pointwise(_at_y_for_x),
    ),
    Hypothesis(
        "at x for y",
        "takes the derivative at x, where its formula needs y",
        _pointwise(_at_x_for_y),
    ),
    Hypothesis(
        "mask from g", "takes the derivative, or the mask, from g in place of x", _pointwise(_at_g)
    ),
    Hypothesis(
        "other sign of x", "takes the derivative at -x, where it belongs at x",
        _pointwise(_mask_of_sign),
    ),
    Hypothesis(
        "divided", "divides by the derivative, where it should multiply",
        _pointwise(lambda evidence, i, d, g: g / d if bool((d != 0).all()) else None),
    ),
    Hypothesis(
        "squared", "has the derivative twice", _pointwise(lambda evidence, i, d, g: g * d * d)
    ),
    Hypothesis(
        "y for the derivative", "has the value y in place of the derivative",
        _pointwise(lambda evidence, i, d, g: g * evidence.y[0]),
    ),
    *(
        Hypothesis(
            "another function", f"has the derivative of {name} at y in place of its own",
            _pointwise(partial(_by_output, name=name)),
        )
        for name in ("tanh", "sigmoid")
    ),
    Hypothesis("formula", FORMULA, _formula),
    Hypothesis("formula", f"{FORMULA} {{where}}", _formula_of_branch),
    Hypothesis(
        "one minus", "is g (1 - dy/dx), where it should be g dy/dx",
        _pointwise(lambda evidence, i, d, g: g * (1 - d)),
    ),
    Hypothesis(
        "added", "adds g and the derivative, where it should multiply",
        _pointwise(lambda evidence, i, d, g: g + d),
    ),
]  # fmt: skip
