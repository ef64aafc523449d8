"""Access to the parts of a weighted loss, for steps and `fast_loss`."""

from __future__ import annotations

from functools import partial

import attrs

from lincoln_fn.core import Arrays, LayerError, with_spec
from lincoln_fn.losses.common.reduction import Check, formula_of
from lincoln_fn.losses.loss import Loss
from lincoln_fn.losses.weighted import Parts, weighted


def first_check(loss: Loss) -> Check | None:
    """Return a loss's check of the first batch of a step.

    Args:
        loss: the loss, weighted or not.

    Returns:
        (prediction, target) -> None, which refuses values that the loss, or a part of it, does not
        accept; None if it accepts all values.

    Example:
        >>> first_check(lf.losses.mse())
    """
    parts = parts_of(loss)
    if not parts:
        formula = formula_of(loss)
        return None if formula is None else formula.check_first
    checks = tuple(first_check(part) for _, part in parts.values())
    return partial(_check_each, parts, checks) if any(checks) else None


def _check_each(
    parts: Parts,
    checks: tuple[Check | None, ...],
    predictions: tuple[Arrays, ...],
    targets: tuple[Arrays, ...],
) -> None:
    heads = zip(parts, checks, predictions, targets, strict=True)
    for name, check, prediction, target in heads:
        try:
            if check is not None:
                check(prediction, target)
        except LayerError as error:
            where = f"weighted[{name!r}] {parts[name][1]}"
            raise LayerError(where, error.problem) from error


def parts_of(loss: Loss) -> Parts:
    """Return the parts of a weighted loss, by name; any other loss has none.

    Returns:
        Weights and losses.

    Example:
        >>> mse = lf.losses.mse()
        >>> parts_of(mse), list(parts_of(lf.losses.weighted({"size": (0.5, mse)})))
        ({}, ['size'])
    """
    spec = loss.spec
    return spec["parts"] if spec is not None and spec.of is weighted else {}


def weighted_of(name: str, parts: Parts) -> Loss:
    """Make a weighted loss from other parts.

    Args:
        name: of the loss.
        parts: (weight, loss) by name.

    Example:
        >>> weighted_of("mine()", {"size": (0.5, lf.losses.mse())})
        mine()
    """
    loss = weighted(parts)
    return with_spec(attrs.evolve(loss, name=name), loss.spec)
