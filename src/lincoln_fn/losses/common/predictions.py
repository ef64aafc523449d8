"""Checks of predictions that are probabilities or their logarithms: logits are refused.

A check reads the values, which takes longer than a small loss. `forward` checks every time, a
training step only at step 0.
"""

from __future__ import annotations

import math
import warnings
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, LayerError
from lincoln_fn.losses.common.targets import outside

# A logarithm computed in a short dtype may be above 0 because of rounding, and so may values that a
# finite difference has changed.
TOLERANCE: Final = 1e-3
# How far the sum of the classes' probabilities may be from 1; in bfloat16 it is not exactly 1.
SUM_TOLERANCE: Final = 0.1


def check_probabilities(name: str, mend: str, p: Tensor, target: Arrays) -> None:
    """Check that values are in [0, 1]."""
    wrong = _beyond(p, -TOLERANCE, 1 + TOLERANCE)
    if wrong is not None:
        raise LayerError(name, f"expected probabilities, in [0, 1], got {wrong:g}; {mend}")


def check_distribution(name: str, mend: str, p: Tensor, target: Arrays, *, dim: int = 1) -> None:
    """Warn, once per process, if probabilities do not sum to 1 over axis dim."""
    check_probabilities(name, mend, p, target)
    if p.ndim > 1 and _wrong_sum(p.detach().float().sum(dim)) is not None:
        # Without the number, because Python shows each text only once.
        problem = "expected the classes' probabilities of each example to sum to 1, and some do not"
        warnings.warn(f"{name}: {problem}; {mend}", UserWarning, stacklevel=2)


def check_log_probabilities(name: str, mend: str, z: Tensor, target: Arrays) -> None:
    """Check that values are at most 0."""
    wrong = _beyond(z, -math.inf, TOLERANCE)
    if wrong is not None:
        raise LayerError(name, f"expected log-probabilities, at most 0, got {wrong:g}; {mend}")


def check_log_distribution(
    name: str, mend: str, z: Tensor, target: Arrays, *, dim: int = 1
) -> None:
    """Check that values are logarithms of probabilities that sum to 1 over axis dim."""
    check_log_probabilities(name, mend, z, target)
    wrong = _wrong_sum(torch.logsumexp(z.detach().float(), dim).exp()) if z.ndim > 1 else None
    if wrong is not None:
        problem = f"expected log-probabilities of classes that sum to 1, got a sum of {wrong:g}"
        raise LayerError(name, f"{problem}; {mend}")


def _beyond(values: Tensor, lowest: float, highest: float) -> float | None:
    # A step reports better where a nan comes from.
    wrong = outside(values, lowest, highest)
    return None if wrong is None or math.isnan(wrong) else wrong


def _wrong_sum(sums: Tensor) -> float | None:
    return _beyond(sums, 1 - SUM_TOLERANCE, 1 + SUM_TOLERANCE)
