"""Losses made of others: as a sum and a count over a part of a batch, and without checks.

The mean over a batch is not the mean of the means over its parts, if they differ in how many values
they have: labels that are ignored, weights of classes, examples of a smaller part. With S_i the sum
of part i's values and n_i its count,

    mean = sum_i S_i / sum_i n_i
    dmean = sum_i dS_i / sum_i n_i
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, LayerError, unexpected, with_spec
from lincoln_fn.losses.common.reduction import ReducedCache, formula_of, loss_of
from lincoln_fn.losses.loss import Loss, check_one_number
from lincoln_fn.losses.weighted import Parts, parts_of, weighted


@attrs.frozen(eq=False)
class PartSum:
    """One part's contribution to the loss of a batch."""

    values: Tensor  # S_i, followed by those of the parts of a weighted loss
    count: Tensor | None  # n_i; None if the loss is a sum
    g: Arrays  # dS_i

    @property
    def numbers(self) -> Tensor:
        """What is added up over the parts: the values, the count, and 1 if there is none."""
        count = self.values.new_zeros((), dtype=torch.float64) if self.count is None else self.count
        is_sum = torch.full_like(count, self.count is None)
        return torch.cat((self.values.double(), torch.stack((count, is_sum))))


def sum_of(loss: Loss, prediction: Arrays, target: Arrays, rows: int) -> PartSum:
    """Compute the contribution of a part of a batch to its loss.

    The loss has reduction mean or sum, is a weighted loss of means, or one of a user's own that is
    a mean over the examples, of which the part has `rows`.
    """
    formula = formula_of(loss)
    if formula is not None and formula.is_mean:
        total = loss_of(loss.name, attrs.evolve(formula, reduction="sum"))
        value, cache = total.forward(prediction, target)
        try:
            n = formula.count(cache.formula)
        except LayerError:  # this part has nothing to average over
            return PartSum(value.unsqueeze(0), _number(value, 0), total.backward(cache))
        if n is None or n.ndim == 0:
            count = _number(value, math.prod(cache.shape)) if n is None else n.double()
            return PartSum(value.unsqueeze(0), count, total.backward(cache))
    value, cache = loss.forward(prediction, target)
    check_one_number(loss.name, value)
    parts = parts_of(loss)
    if parts:
        _check_counts(parts, cache.caches)
    values = torch.stack((value, *(cache.values if parts else ())))
    if formula is not None and formula.reduction == "sum":
        return PartSum(values, None, loss.backward(cache))
    # Each value has a divisor of its own, such as its length.
    examples: float = math.prod(cache.shape) if isinstance(cache, ReducedCache) else rows
    return PartSum(values * examples, _number(value, examples), loss.backward(cache, examples))


def _number(like: Tensor, number: float) -> Tensor:
    return like.new_full((), number, dtype=torch.float64)


def _check_counts(parts: Parts, caches: Sequence[Cache]) -> None:
    """Check that each part of a weighted loss is a mean over all values of its own."""
    for (name, (_, part)), cache in zip(parts.items(), caches, strict=True):
        if not isinstance(cache, ReducedCache):
            continue  # a loss of one's own
        formula = formula_of(part)
        is_mean = formula is not None and formula.is_mean
        counts_all = cache.n is None or bool((cache.n == math.prod(cache.shape)).all())
        if not is_mean or not counts_all:
            expected = "a mean over all values"
            mend = "weight classes and ignore labels in a loss that is not weighted"
            raise unexpected(f"weighted[{name!r}]", expected, f"{part} of some", mend)


def unchecked(loss: Loss) -> Loss:
    """Make the same loss without its check of predictions, which reads all values."""
    if parts := parts_of(loss):
        each = {name: (weight, unchecked(part)) for name, (weight, part) in parts.items()}
        return with_spec(attrs.evolve(weighted(each), name=loss.name), loss.spec)
    formula = formula_of(loss)
    if formula is None or formula.check is None:
        return loss
    return loss_of(loss.name, attrs.evolve(formula, check=None))
