"""A loss without its check of predictions, for the steps of a run behind the first."""

from __future__ import annotations

import attrs

from lincoln_fn.core import with_spec
from lincoln_fn.losses.common.reduction import formula_of, loss_of
from lincoln_fn.losses.loss import Loss
from lincoln_fn.losses.weighted import parts_of, weighted


def unchecked(loss: Loss) -> Loss:
    """Make the same loss without its check of predictions, which reads all values."""
    if parts := parts_of(loss):
        each = {name: (weight, unchecked(part)) for name, (weight, part) in parts.items()}
        return with_spec(attrs.evolve(weighted(each), name=loss.name), loss.spec)
    formula = formula_of(loss)
    if formula is None or formula.check is None:
        return loss
    return loss_of(loss.name, attrs.evolve(formula, check=None))
