"""The mistakes that the checker knows by name, in files by kind.

A name is given only if the mistake, made in the right gradient, gives the submitted one. The
cheapest such mistake is named: what is both negative and a rare mistake is said to be negative.
"""

from itertools import chain

from lincoln_fn.testing.hypotheses import (
    axes,
    convolutions,
    cotangents,
    derivatives,
    factors,
    formulas,
    maxima,
    movement,
    operands,
    order,
    others,
    windows,
)
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis

__all__ = ["HYPOTHESES", "Cost", "Guess", "Hypothesis"]

HYPOTHESES: list[Hypothesis] = sorted(
    chain(
        order.SIMPLE,
        cotangents.HYPOTHESES,
        derivatives.HYPOTHESES,
        formulas.HYPOTHESES,
        order.HYPOTHESES,
        movement.HYPOTHESES,
        windows.HYPOTHESES,
        maxima.HYPOTHESES,
        windows.PATHS,
        movement.USES,
        axes.HYPOTHESES,
        operands.SEGMENTS,
        factors.HYPOTHESES,
        convolutions.PRODUCTS,
        convolutions.HYPOTHESES,
        derivatives.SIGNS_AND_PARTS,
        operands.HYPOTHESES,
        cotangents.ELSEWHERE,
        others.HYPOTHESES,
        derivatives.OTHERS,
        others.LAST,
    ),
    key=lambda hypothesis: hypothesis.cost,
)
