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


def first_of(cases: list[Case]) -> list[Case]:
    """Give one configuration of each constructor."""
    return [*{case.constructor: case for case in reversed(cases)}.values()][::-1]


FIRST = first_of(CASES)
