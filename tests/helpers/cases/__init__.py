"""The table of cases: every layer in every configuration that changes its code path."""

from importlib import import_module

from helpers.cases.case import Case

FAMILIES = (
    *("basic", "combinators", "activations", "arithmetic", "convolution", "normalisation"),
    *("dropout", "embedding", "graphs", "pooling", "recurrent", "linear_recurrence", "shape"),
    "attention",
)
CASES: list[Case] = [
    case for family in FAMILIES for case in import_module(f"helpers.cases.{family}").CASES
]


def first_of(cases: list[Case]) -> list[Case]:
    """Give one configuration of each constructor."""
    return [*{case.constructor: case for case in reversed(cases)}.values()][::-1]


FIRST = first_of(CASES)
