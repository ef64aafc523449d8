"""The mistakes that the checker knows by name, in files by kind, in the order they are tried.

A name is given only if the mistake, made in the right gradient, gives the submitted one.
"""

from lincoln_fn.testing.hypotheses import (
    activations,
    axes,
    cotangents,
    derivatives,
    diagonal,
    elsewhere,
    entropy,
    factors,
    further_factors,
    movement,
    norms,
    operands,
    order,
    others,
    path_factors,
    paths,
    products,
    simple,
    softmax,
    states,
    windows,
)
from lincoln_fn.testing.hypotheses.hypothesis import Guess, Hypothesis

__all__ = ["HYPOTHESES", "Guess", "Hypothesis"]

# Simple ones first: what is both negative and a rare mistake is said to be negative.
HYPOTHESES: list[Hypothesis] = [
    *simple.EARLY,
    *cotangents.HYPOTHESES,
    *activations.HYPOTHESES,
    *entropy.HYPOTHESES,
    *softmax.HYPOTHESES,
    *norms.HYPOTHESES,
    *order.HYPOTHESES,
    *factors.PRODUCTS,
    *simple.AVERAGES,
    *simple.FACTORS,
    *simple.DOUBLED,
    *axes.SHAPES,
    *others.POOLING,
    *derivatives.HYPOTHESES,
    *movement.HYPOTHESES,
    *paths.HYPOTHESES,
    *movement.USES,
    *axes.HYPOTHESES,
    *factors.HYPOTHESES,
    *products.HYPOTHESES,
    *derivatives.SIGN,
    *states.HYPOTHESES,
    *windows.HYPOTHESES,
    *further_factors.HYPOTHESES,
    *operands.HYPOTHESES,
    *simple.CHANGED,
    *simple.ITSELF,
    *diagonal.HYPOTHESES,
    *elsewhere.HYPOTHESES,
    *others.HYPOTHESES,
    *derivatives.OTHERS,
    *diagonal.LATE,
    *order.LATE,
    *simple.LATE,
    *path_factors.HYPOTHESES,
    *others.LATE,
]
