"""The loss protocol, and what all losses share: reductions, and reading the labels.

    value, cache = loss.forward(prediction, target)
    dprediction  = loss.backward(cache, g=1.0)      g is dL/dvalue

A loss first gives each example (or element) a value l_i, and `reduction` makes of them

    none   l                 dl_i = g_i
    sum    sum_i l_i         dl_i = g
    mean   sum_i l_i / n     dl_i = g / n
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

import attrs
import torch
from torch import Tensor

from lincoln_fn.layer import Cache, spelled
from lincoln_fn.record import record, static
from lincoln_fn.shapes import LayerError, check_cache

Reduction: TypeAlias = Literal["mean", "sum", "none"]

# Logarithms of probabilities are taken at no less than this: float32's smallest normal number, in
# every dtype, so that p = 0 gives the same finite loss, 87.3, and a finite gradient in all of them.
SMALLEST: Final = 2.0**-126


@attrs.frozen(eq=False, repr=False)
class Loss:
    """A loss, as the pure functions that make it.

    Args:
        name: the code that makes the loss; its repr.
        forward: (prediction, target) -> (value, cache).
        backward: (cache, g=1.0) -> dprediction, of the prediction's shape.

    Example:
        >>> square = Loss(
        ...     "square()",
        ...     forward=lambda p, target: ((p - target) ** 2, p - target),
        ...     backward=lambda cache, g=1.0: 2 * g * cache,
        ... )
        >>> square.forward(3.0, 1.0), square.backward(2.0)
        ((4.0, 2.0), 4.0)
    """

    name: str
    forward: Callable[[Tensor, Tensor], tuple[Tensor, Cache]]
    # ...: g may be left out, which Callable cannot say of one argument.
    backward: Callable[..., Tensor]

    def __repr__(self) -> str:
        return self.name


@record
class Reduced:
    """What the elements' gradient needs, and how many elements there were."""

    kept: Cache
    shape: tuple[int, ...] = static()


def reduced(
    name: str,
    reduction: Reduction,
    values: Callable[[Tensor, Tensor], tuple[Tensor, Cache]],
    slope: Callable[[Cache, Tensor | float], Tensor],
    **options: tuple[object, object],
) -> Loss:
    """Make a loss of the values of its elements and their gradient.

    Args:
        name: the name of the loss's constructor.
        reduction: "mean", "sum" or "none".
        values: (prediction, target) -> (l, kept), l with one value an element.
        slope: (kept, dl) -> dprediction, dl being a number or a tensor of l's shape.
        **options: what else the loss's repr shows, each with its default.

    Returns:
        The loss.

    Raises:
        ValueError: if there is no such reduction.
        LayerError: from the loss's functions, for input that does not fit.
    """
    if reduction not in get_args(Reduction):
        raise ValueError(f"{name}: expected reduction mean, sum or none, got {reduction!r}")

    def forward(prediction: Tensor, target: Tensor) -> tuple[Tensor, Reduced]:
        _check_prediction(name, prediction, target)
        elements, kept = values(prediction, target)
        return _REDUCERS[reduction](elements), Reduced(kept, tuple(elements.shape))

    def backward(cache: Reduced, g: Tensor | float = 1.0) -> Tensor:
        check_cache(name, cache, Reduced)
        expected = cache.shape if reduction == "none" else ()
        if isinstance(g, Tensor) and g.shape != expected:
            raise LayerError(name, f"expected g of shape {expected}, got {tuple(g.shape)}")
        return slope(cache.kept, g / math.prod(cache.shape) if reduction == "mean" else g)

    return Loss(spelled(name, reduction=(reduction, "mean"), **options), forward, backward)


_REDUCERS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "none": lambda elements: elements,
}


def _check_prediction(name: str, prediction: object, target: object) -> None:
    for what, given in (("prediction", prediction), ("target", target)):
        if not isinstance(given, Tensor):
            raise LayerError(name, f"expected {what} to be a tensor, got {type(given).__name__}")
        if given.numel() == 0:
            shape = tuple(given.shape)
            raise LayerError(name, f"expected at least one example, got {what} of shape {shape}")
    assert isinstance(prediction, Tensor)
    assert isinstance(target, Tensor)
    if not prediction.is_floating_point():
        raise LayerError(name, f"expected prediction of a floating dtype, got {prediction.dtype}")
    if target.device != prediction.device:
        raise LayerError(name, f"expected target on {prediction.device}, got {target.device}")


def value_range(values: Tensor) -> tuple[float, float] | None:
    """Read a tensor's smallest and largest value, where they can be read.

    Args:
        values: a tensor with at least one element.

    Returns:
        Both values; None on a `meta` tensor and while a step is traced or mapped over, when there
        are no values to look at.

    Example:
        >>> value_range(torch.tensor([3, 1, 2]))
        (1, 3)
    """
    try:
        low, high = torch.aminmax(values)
        return low.item(), high.item()
    except RuntimeError:
        return None
