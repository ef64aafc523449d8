"""Gradient bugs of public histories, rebuilt small, and functions that are right."""

from helpers.functions import memory, shapes, sizes, values
from helpers.functions.pair import Pair

PAIRS: list[Pair] = [*values.PAIRS, *shapes.PAIRS, *memory.PAIRS, *sizes.PAIRS]
