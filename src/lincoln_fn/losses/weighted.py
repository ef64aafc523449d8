"""Weighted sum of losses, one for each entry of the prediction, for a network with several heads.

Derivation. Loss i has the weight w_i, and depends only on entry i of prediction and target, so

    L = sum_i w_i L_i
    dprediction_i = w_i g (dL_i)/(dprediction_i)

Cache: each loss's own, and each L_i.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, TypeAlias

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import NOT_EMPTY, Arrays, LayerError, bare, record, require
from lincoln_fn.core import Cache as AnyCache
from lincoln_fn.losses.common.mixing import mix_of
from lincoln_fn.losses.common.one_number import check_one_number
from lincoln_fn.losses.common.reduction import Cotangent
from lincoln_fn.losses.loss import Loss

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
            wanted = f"{what} to be a tuple ({', '.join(parts)})"
            raise LayerError("weighted", f"expected {wanted}, got {core.describe_non_tuple(given)}")
    values, caches = [], []
    total: Tensor | None = None
    for (name, (weight, loss)), of_prediction, of_target in zip(
        parts.items(), prediction, target, strict=True
    ):
        value, cache = _part(name, loss, of_prediction, of_target)
        total = weight * value if total is None else total + weight * value
        values.append(value)
        caches.append(cache)
    assert total is not None  # for there is a part
    return total, Cache(tuple(caches), tuple(values))


def backward(cache: Cache, g: Cotangent = 1.0, *, parts: Parts) -> tuple[Arrays, ...]:
    """Compute dprediction_i = w_i g dL_i/dprediction_i."""
    core.check_cache("weighted", cache, Cache)
    pairs = zip(parts.values(), cache.caches, strict=True)
    return tuple(loss.backward(of_part, weight * g) for (weight, loss), of_part in pairs)


def _part(name: str, loss: Loss, prediction: Arrays, target: Arrays) -> tuple[Tensor, AnyCache]:
    """Compute the value of one loss, whose errors name it."""
    where = f"weighted[{name!r}] {loss}"
    try:
        value, cache = loss.forward(prediction, target)
    except LayerError as error:
        raise LayerError(where, error.problem) from error
    check_one_number(where, value)
    return value, cache


@core.constructor
def weighted(parts: Annotated[Parts, NOT_EMPTY]) -> Loss:
    """Add up losses with weights, one for each entry of the prediction: L = sum_i w_i L_i.

    Prediction and target are tuples; loss i gets entry i of both. An example of a net is
    `branch(head, head, merge=identity())`; `select(0, 0)` gives one prediction to two losses.
    `train` and `fit` report the unweighted value of each loss in `record.scores`.

    Args:
        parts: (weight, loss) by name, in the order of the prediction's entries.

    Raises:
        LayerError: if parts is not such a mapping, is empty, or names a part "step" or "loss"; from
            its functions, if a loss raises one, its reduction is "none", or prediction or target is
            not a tuple with an entry for each.

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
