"""The error that the checks raise, and when two gradients count as equal."""

from __future__ import annotations

import torch
from torch import Tensor

# Much larger than the errors of the oracles, much smaller than any mistake worth a name.
TOLERANCE = 1e-5


class GradientError(AssertionError):
    """Raised if a layer or loss breaks the contract; names the leaf and the likely mistake."""


class ImpureError(GradientError):
    """Raised if a function changes an argument, or gives something else the second time."""

    def __init__(self, sentence: str, function: str) -> None:
        super().__init__(sentence)
        self.function = function


def close(given: Tensor, expected: Tensor, floor: float = 1e-9) -> bool:
    """Return whether two tensors have one shape and, up to the oracles' error, the same values."""
    if given.shape != expected.shape:
        return False
    if torch.equal(given, expected):  # infinities included
        return True
    if expected.dtype is torch.bool:  # a mask that a layer passes on
        return False
    return bool((given - expected).abs().max() <= TOLERANCE * expected.abs().max() + floor)
