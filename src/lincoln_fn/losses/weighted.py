"""Weighted sum of losses, one for each entry of the prediction, for a network with several heads.

Derivation. Loss i has the weight w_i, and depends only on entry i of prediction and target, so

    L = sum_i w_i L_i
    dprediction_i = w_i g (dL_i)/(dprediction_i)

Cache: each loss's own, and each L_i.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Annotated, TypeAlias, TypeVar

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import NOT_EMPTY, Arrays, LayerError, bare, record, require, unexpected
from lincoln_fn.core import Cache as AnyCache
from lincoln_fn.losses.common.reduction import Check, Cotangent, formula_of
from lincoln_fn.losses.loss import Loss, check_one_number, mix_of

T = TypeVar("T")
Parts: TypeAlias = Mapping[str, tuple[float, Loss]]


@record
class Cache:
    """The caches of the losses, and their unweighted values."""

    caches: tuple[AnyCache, ...]
    values: tuple[Tensor, ...]


def forward(
    prediction: tuple[Arrays, ...], target: tuple[Arrays, ...], *, parts: Parts
) -> tuple[Tensor, Cache]:
    """Compute L = sum_i w_i L_i."""
    for what, given in (("prediction", prediction), ("target", target)):
        if type(given) is not tuple or len(given) != len(parts):
            expected = f"{what} to be a tuple ({', '.join(parts)})"
            raise unexpected("weighted", expected, core.describe_non_tuple(given))
    values, caches, terms = [], [], []
    for (name, (weight, loss)), *entries in zip(parts.items(), prediction, target, strict=True):
        value, cache = _named(name, loss, loss.forward, *entries)
        check_one_number(f"weighted[{name!r}] {loss}", value)
        values.append(value)
        caches.append(cache)
        terms.append(weight * value)
    return reduce(torch.add, terms), Cache(tuple(caches), tuple(values))


def backward(cache: Cache, g: Cotangent = 1.0, *, parts: Parts) -> tuple[Arrays, ...]:
    """Compute dprediction_i = w_i g dL_i/dprediction_i."""
    core.check_cache("weighted", cache, Cache)
    pairs = zip(parts.values(), cache.caches, strict=True)
    return tuple(loss.backward(of_part, weight * g) for (weight, loss), of_part in pairs)


def _named(name: str, loss: Loss, run: Callable[..., T], prediction: Arrays, target: Arrays) -> T:
    try:
        return run(prediction, target)
    except LayerError as error:
        raise LayerError(f"weighted[{name!r}] {loss}", error.problem) from error


@core.constructor
def weighted(parts: Annotated[Parts, NOT_EMPTY]) -> Loss:
    """Add up losses with weights, one for each entry of the prediction: L = sum_i w_i L_i.

    Prediction and target are tuples; loss i gets entry i of both. An example of a net is
    `branch(head, head, merge=identity())`; `select(0, 0)` gives one prediction to two losses.
    `train` and `fit` report the unweighted value of each loss in `record.scores`.

    Args:
        parts: (weight, loss) by name, in the order of the prediction's entries.

    Example:
        >>> mse = lf.losses.mse()
        >>> loss = weighted({"place": (1.0, mse), "size": (0.5, mse)})
        >>> value, cache = loss.forward((torch.ones(1), torch.ones(1)), (torch.zeros(1),) * 2)
        >>> value, loss.backward(cache)
        (tensor(1.5000), (tensor([2.]), tensor([1.])))
    """
    for name in parts:
        require(name not in ("step", "loss"), "weighted", "no part named 'step' or 'loss'", name)
    mixes = mix_of(loss for _, loss in parts.values())
    return bare(partial(Loss, mixes_examples=mixes), forward, backward)


def first_check(loss: Loss) -> Check | None:
    """Return a loss's check of the first batch of a step; None if it accepts all values."""
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
    for name, check, *given in zip(parts, checks, predictions, targets, strict=True):
        if check is not None:
            _named(name, parts[name][1], check, *given)


def parts_of(loss: Loss) -> Parts:
    """Return the parts of a weighted loss, by name; any other loss has none."""
    spec = loss.spec
    return spec["parts"] if spec is not None and spec.of is weighted else {}
