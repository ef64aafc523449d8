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
    elsewhere,
    factors,
    formulas,
    maxima,
    movement,
    operands,
    order,
    others,
    paths,
    products,
    segments,
    simple,
    windows,
)
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis

__all__ = ["HYPOTHESES", "Cost", "Guess", "Hypothesis"]

HYPOTHESES: list[Hypothesis] = sorted(
    chain(
        simple.HYPOTHESES,
        cotangents.HYPOTHESES,
        derivatives.HYPOTHESES,
        formulas.HYPOTHESES,
        order.HYPOTHESES,
        movement.HYPOTHESES,
        windows.HYPOTHESES,
        maxima.HYPOTHESES,
        paths.HYPOTHESES,
        movement.USES,
        axes.HYPOTHESES,
        segments.HYPOTHESES,
        factors.HYPOTHESES,
        products.HYPOTHESES,
        convolutions.HYPOTHESES,
        derivatives.SIGNS_AND_PARTS,
        operands.HYPOTHESES,
        elsewhere.HYPOTHESES,
        others.HYPOTHESES,
        derivatives.OTHERS,
        others.LAST,
    ),
    key=lambda hypothesis: hypothesis.cost,
)
