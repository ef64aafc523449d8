"""Derivatives that are polynomials in y: 1 - y^2, y (1 - y)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis, guess_alone

DEGREE = 2
# How well a polynomial has to fit derivatives, which may be from differences.
FIT = 1e-6
# Above this a coefficient is that of a y that hardly changes, as behind a small factor.
LARGEST = 100


def _list_powers(y: Tensor) -> Tensor:
    return torch.stack([y.flatten() ** n for n in range(DEGREE + 1)], -1)


def _fit(y: Tensor, values: Tensor) -> Tensor | None:
    """Find the coefficients of the polynomial in y that some values are."""
    powers, wanted = _list_powers(y), values.flatten().unsqueeze(-1)
    fit: Tensor = torch.linalg.lstsq(powers, wanted).solution
    return fit if torch.allclose(powers @ fit, wanted, rtol=FIT, atol=FIT / 100) else None


def evaluate_at_input(x: Tensor, y: Tensor, slope: Tensor, g: Tensor) -> Tensor | None:
    """Take the polynomial in y that a derivative is at x."""
    fit = _fit(y, slope) if y.numel() >= DEGREE + 2 else None
    return None if fit is None else g * (_list_powers(x) @ fit).view(g.shape)


def _write_formulas(evidence: Evidence) -> Iterator[Guess]:
    """Write both derivatives as polynomials in y: everywhere, or where they differ."""
    for i, (given, right) in enumerate(evidence.pairs()):
        d = evidence.derivative(i)
        if d is None or given.shape != right.shape:
            continue
        y, values = evidence.y[0], given / evidence.g[0]
        is_wrong = (given - right).abs() > 1e-9 * right.abs().max()
        everywhere = torch.ones_like(is_wrong)
        for places, fewest in ((everywhere, 2 * (DEGREE + 2)), (is_wrong, DEGREE + 2)):
            count = int(places.sum())
            if count < fewest or (places is is_wrong and count == is_wrong.numel()):
                continue
            said = [_write(y[places], v[places]) for v in (values, d)]
            if all(said) and said[0] != said[1] and "y" in "".join(said):
                where = (
                    "" if places is everywhere else _tell_where(evidence.sample.arrays[i], is_wrong)
                )
                yield guess_alone(evidence, i, given, wrong=said[0], right=said[1], where=where)


def _tell_where(x: Tensor, is_wrong: Tensor) -> str:
    """Describe places by the sign of x, if that tells them."""
    for mask, words in ((x < 0, " where x < 0"), (x > 0, " where x > 0")):
        if torch.equal(mask, is_wrong):
            return words
    return f" in {int(is_wrong.sum())} of {is_wrong.numel()} places"


def _write(y: Tensor, values: Tensor) -> str:
    """Write values as g times a polynomial in y; "" if they are none."""
    fit = _fit(y, values)
    if fit is None or bool(fit.abs().max() > LARGEST):
        return ""
    terms = [(round(c, 5), ("", "y", "y^2")[n]) for n, c in enumerate(fit.flatten().tolist())]
    text = " ".join(
        f"{'-' if c < 0 else '+'} {'' if abs(c) == 1 and name else f'{abs(c):g}'} {name}"
        for c, name in terms
        if c
    )
    text = " ".join(text.removeprefix("+ ").split())
    if text in ("", "1"):
        return "g" if text else "zero"
    return f"g ({text})" if " " in text else f"g {text}"


HYPOTHESES = [
    Hypothesis("formula", "is {wrong}; it should be {right}{where}", _write_formulas, Cost.FORMULA)
]
