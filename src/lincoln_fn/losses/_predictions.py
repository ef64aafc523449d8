"""Checks of predictions that are probabilities or their logarithms: logits are refused by name.

A check reads the values, which takes longer than a small loss. `forward` checks every time, a
training step only at step 0.
"""

from __future__ import annotations

import math
import warnings
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.losses._targets import outside
from lincoln_fn.shapes import LayerError

# A logarithm that was computed in a short dtype may lie above 0 by its rounding, and so may
# values that a finite difference has moved.
TOLERANCE: Final = 1e-3
# By how much the classes' probabilities may miss a sum of 1: those computed in bfloat16 do.
SUM_TOLERANCE: Final = 0.1


def check_probabilities(name: str, mend: str, p: Tensor) -> None:
    """Check that values lie in [0, 1]."""
    wrong = _beyond(p, -TOLERANCE, 1 + TOLERANCE)
    if wrong is not None:
        raise LayerError(name, f"expected probabilities, in [0, 1], got {wrong:g}; {mend}")


def warn_unless_distribution(name: str, mend: str, p: Tensor) -> None:
    """Warn, once in a process, of probabilities that do not sum to 1 over axis 1."""
    if p.ndim > 1 and _wrong_sum(p.detach().float().sum(1)) is not None:
        # Without the number: Python shows one text of one line once.
        problem = "expected the classes' probabilities of each example to sum to 1, and some do not"
        warnings.warn(f"{name}: {problem}; {mend}", UserWarning, stacklevel=2)


def check_log_probabilities(name: str, mend: str, z: Tensor) -> None:
    """Check that values are at most 0."""
    wrong = _beyond(z, -math.inf, TOLERANCE)
    if wrong is not None:
        raise LayerError(name, f"expected log-probabilities, at most 0, got {wrong:g}; {mend}")


def check_log_distribution(name: str, mend: str, z: Tensor) -> None:
    """Check that values are logarithms of probabilities which sum to 1 over axis 1."""
    check_log_probabilities(name, mend, z)
    if z.ndim < 2:
        return
    wrong = _wrong_sum(torch.logsumexp(z.detach().float(), 1).exp())
    if wrong is not None:
        problem = f"expected log-probabilities of classes that sum to 1, got a sum of {wrong:g}"
        raise LayerError(name, f"{problem}; {mend}")


def _beyond(values: Tensor, lowest: float, highest: float) -> float | None:
    # Where a nan comes from, a step says better.
    wrong = outside(values, lowest, highest)
    return None if wrong is None or math.isnan(wrong) else wrong


def _wrong_sum(sums: Tensor) -> float | None:
    return _beyond(sums, 1 - SUM_TOLERANCE, 1 + SUM_TOLERANCE)
