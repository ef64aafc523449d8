"""The table of cases: every layer in every configuration that changes its code path."""

from helpers.cases import (
    activations,
    arithmetic,
    attention,
    basic,
    combinators,
    convolution,
    dropout,
    embedding,
    graphs,
    linear_recurrence,
    normalisation,
    pooling,
    recurrent,
    shape,
)
from helpers.cases.case import Case

CASES: list[Case] = [
    case
    for family in (
        basic,
        combinators,
        activations,
        arithmetic,
        convolution,
        normalisation,
        dropout,
        embedding,
        graphs,
        pooling,
        recurrent,
        linear_recurrence,
        shape,
        attention,
    )
    for case in family.CASES
]
# One configuration of each constructor: for what a constructor's way of making layers decides.
FIRST: list[Case] = [*{case.constructor: case for case in reversed(CASES)}.values()][::-1]
