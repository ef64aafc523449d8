"""`fast_loss`: losses that do not check each prediction, as whether it is of probabilities.

The check reads all values, and would run in every step.
"""

from __future__ import annotations

import attrs

from lincoln_fn.core import with_spec
from lincoln_fn.losses import Loss, weighted
from lincoln_fn.losses.internal import formula_of, loss_of, parts_of


def fast_loss(loss: Loss) -> Loss:
    """Make the same loss without its check of predictions; one of a user's own stays."""
    parts = parts_of(loss)
    if parts:
        faster = {name: (weight, fast_loss(part)) for name, (weight, part) in parts.items()}
        return with_spec(attrs.evolve(weighted(faster), name=loss.name), loss.spec)
    formula = formula_of(loss)
    if formula is None or formula.check is None:
        return loss
    return loss_of(loss.name, attrs.evolve(formula, check=None))
