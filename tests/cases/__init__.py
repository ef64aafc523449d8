"""The table of cases: every layer in every configuration that changes its code path."""

from cases import activations, basic
from cases.case import Case

CASES: list[Case] = [case for family in (basic, activations) for case in family.CASES]
