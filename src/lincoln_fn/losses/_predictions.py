"""Checks of predictions that are probabilities or their logarithms: logits are refused by name.

A check reads the values, which takes longer than a small loss. So `forward` makes it, and a
training step does once, on its first batch: `make_step` leaves it out of every step.
"""

from __future__ import annotations

import warnings
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.losses._targets import value_range
from lincoln_fn.shapes import LayerError

# A logarithm that was computed in a short dtype may lie above 0 by its rounding, and so may
# values that a finite difference has moved.
TOLERANCE: Final = 1e-3
# By how much the classes' probabilities may miss a sum of 1: those computed in bfloat16 do.
SUM_TOLERANCE: Final = 0.1


def check_probabilities(name: str, mend: str, p: Tensor) -> None:
    """Check that values lie in [0, 1]."""
    ends = value_range(p)
    if ends and (ends[0] < -TOLERANCE or ends[1] > 1 + TOLERANCE):
        wrong = ends[0] if ends[0] < -TOLERANCE else ends[1]
        raise LayerError(name, f"expected probabilities, in [0, 1], got {wrong:g}; {mend}")


def warn_unless_distribution(name: str, mend: str, p: Tensor) -> None:
    """Warn, once in a process, of probabilities that do not sum to 1 over axis 1."""
    if p.ndim < 2:
        return
    ends = value_range(p.detach().float().sum(1))
    if ends and (ends[0] < 1 - SUM_TOLERANCE or ends[1] > 1 + SUM_TOLERANCE):
        # Without the number: Python shows one text of one line once.
        problem = "expected the classes' probabilities of each example to sum to 1, and some do not"
        warnings.warn(f"{name}: {problem}; {mend}", UserWarning, stacklevel=2)


def check_log_probabilities(name: str, mend: str, z: Tensor) -> None:
    """Check that values are at most 0."""
    ends = value_range(z)
    if ends and ends[1] > TOLERANCE:
        raise LayerError(name, f"expected log-probabilities, at most 0, got {ends[1]:g}; {mend}")


def check_log_distribution(name: str, mend: str, z: Tensor) -> None:
    """Check that values are logarithms of probabilities which sum to 1 over axis 1."""
    check_log_probabilities(name, mend, z)
    if z.ndim < 2:
        return
    sums = torch.logsumexp(z.detach().float(), 1).exp()
    ends = value_range(sums)
    if ends and (ends[0] < 1 - SUM_TOLERANCE or ends[1] > 1 + SUM_TOLERANCE):
        wrong = ends[0] if ends[0] < 1 - SUM_TOLERANCE else ends[1]
        problem = f"expected log-probabilities of classes that sum to 1, got a sum of {wrong:g}"
        raise LayerError(name, f"{problem}; {mend}")
