"""The loss protocol, and what all losses share: reductions, and reading what is given.

    value, cache = loss.forward(prediction, target)
    dprediction  = loss.backward(cache, g=1.0)      g is dL/dvalue

A loss first gives each example (or element) a value l_i, and `reduction` makes of them

    none   l                   dl_i = g_i
    sum    sum_i l_i           dl_i = g
    mean   sum_i l_i / n_i     dl_i = g / n_i

where n_i is the number of values, unless a loss counts otherwise: by class weights, say.

A loss of several inputs takes them as a tuple, and its `backward` returns a tuple in their order.
The target is a tensor, a tuple of them, or None where the inputs are all that a loss looks at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

import attrs
import torch
from torch import Tensor

from lincoln_fn.layer import Arrays, Cache, call_repr
from lincoln_fn.record import brief, record, static
from lincoln_fn.shapes import LayerError, check_cache, check_like

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
        backward: (cache, g=1.0) -> dprediction, which mirrors the prediction.

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
    forward: Callable[[Arrays, Arrays], tuple[Tensor, Cache]]
    # ...: g may be left out, which Callable cannot say of one argument.
    backward: Callable[..., Arrays]

    def __repr__(self) -> str:
        return self.name


@record
class Reduced:
    """What the values' gradient needs, what a mean divides by, and the values' shape.

    n is None where a mean divides by the number of values, or where there is no mean.
    """

    kept: Cache
    n: Tensor | None
    shape: tuple[int, ...] = static()


def reduced(
    name: str,
    reduction: str,
    values: Callable[[Arrays, Arrays], tuple[Tensor, Cache]],
    slope: Callable[[Cache, Tensor | float], Arrays],
    *,
    count: Callable[[Cache], Tensor | None] = lambda kept: None,
    inputs: tuple[str, ...] = ("prediction",),
    targets: tuple[str, ...] = ("target",),
    reductions: tuple[str, ...] = get_args(Reduction),
    **options: tuple[object, object],
) -> Loss:
    """Make a loss of its values l_i and their gradient.

    Args:
        name: the name of the loss's constructor.
        reduction: one of `reductions`.
        values: (prediction, target) -> (l, kept).
        slope: (kept, dl) -> dprediction, dl being a number or a tensor of shape () or of l's.
        count: kept -> what a mean divides by, of shape () or of l's; None for the number of values.
        inputs: the names of the prediction's tensors; of several, the prediction is a tuple.
        targets: the names of the target's tensors, likewise; of none, the target is None.
        reductions: those that the loss has; any but sum and none is a mean.
        **options: what else the loss's repr shows, each with its default.

    Returns:
        The loss.

    Raises:
        ValueError: if there is no such reduction.
        LayerError: from the loss's functions, for input that does not fit.
    """
    if reduction not in reductions:
        known = f"{', '.join(reductions[:-1])} or {reductions[-1]}"
        raise ValueError(f"{name}: expected reduction {known}, got {reduction!r}")
    is_mean = reduction not in ("sum", "none")

    def forward(prediction: Arrays, target: Arrays) -> tuple[Tensor, Reduced]:
        _check_given(name, inputs, prediction, targets, target)
        elements, kept = values(prediction, target)
        n = count(kept) if is_mean else None
        cache = Reduced(kept, n, tuple(elements.shape))
        if is_mean:
            return elements.mean() if n is None else (elements / n).sum(), cache
        return elements.sum() if reduction == "sum" else elements, cache

    def backward(cache: Reduced, g: Tensor | float = 1.0) -> Arrays:
        check_cache(name, cache, Reduced)
        expected = cache.shape if reduction == "none" else ()
        if isinstance(g, Tensor) and g.shape != expected:
            raise LayerError(name, f"expected g of shape {expected}, got {tuple(g.shape)}")
        if not is_mean:
            return slope(cache.kept, g)
        return slope(cache.kept, g / (math.prod(cache.shape) if cache.n is None else cache.n))

    return Loss(call_repr(name, reduction=(reduction, "mean"), **options), forward, backward)


def _check_given(
    name: str, inputs: tuple[str, ...], prediction: Arrays, targets: tuple[str, ...], target: Arrays
) -> None:
    predicted = _listed(name, "prediction", inputs, prediction)
    labels = _listed(name, "target", targets, target)
    for what, given in (*predicted, *labels):
        if not isinstance(given, Tensor):
            raise LayerError(name, f"expected {what} to be a tensor, got {type(given).__name__}")
        # One of several target tensors may be empty: sequences without a label, to ctc.
        if given.numel() == 0 and (what in inputs or len(targets) == 1):
            shape = tuple(given.shape)
            raise LayerError(name, f"expected at least one example, got {what} of shape {shape}")
    what, first = predicted[0]
    if not first.is_floating_point():
        raise LayerError(name, f"expected {what} of a floating dtype, got {first.dtype}")
    for what, given in predicted[1:]:
        check_like(name, what, given, first)
    for what, given in labels:
        if given.device != first.device:
            raise LayerError(name, f"expected {what} on {first.device}, got {given.device}")


def _listed(
    name: str, what: str, names: tuple[str, ...], given: Arrays
) -> list[tuple[str, Tensor]]:
    """Pair what is given with its names."""
    if len(names) == 1:
        return [(names[0], given)]
    if not names:
        if given is not None:
            raise LayerError(name, f"expected {what} None, got {brief(given)}")
        return []
    if not isinstance(given, tuple) or len(given) != len(names):
        raise LayerError(name, f"expected {what} ({', '.join(names)}), got {brief(given)}")
    return list(zip(names, given, strict=True))


def require(name: str, holds: bool, expected: str, got: object) -> None:
    """Check a hyperparameter.

    Args:
        name: the name of the loss's constructor.
        holds: whether it is as it should be.
        expected: what it should be.
        got: its value.

    Raises:
        ValueError: if it is not so.

    Example:
        >>> require("huber", 0 > 0, "delta above 0", 0)
        Traceback (most recent call last):
        ValueError: huber: expected delta above 0, got 0
    """
    if not holds:
        raise ValueError(f"{name}: expected {expected}, got {got!r}")


def spread(dl: Tensor | float, dim: int) -> Tensor | float:
    """Give dl, one number an example, the axis along which the loss has reduced its input.

    Args:
        dl: a number, or a tensor of shape () or of the loss's values.
        dim: the axis.

    Returns:
        What broadcasts against the input.

    Example:
        >>> spread(torch.tensor([1.0, 2.0]), -1).shape, spread(3.0, -1)
        (torch.Size([2, 1]), 3.0)
    """
    return dl.unsqueeze(dim) if isinstance(dl, Tensor) and dl.ndim else dl


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


def nan_unless(right: Tensor, values: Tensor) -> Tensor:
    """Put nan in the place of wrong values, where `value_range` has none to look at.

    Args:
        right: which are right.
        values: a floating tensor.

    Returns:
        The values; a wrong one makes the loss nan, which a training step refuses.

    Example:
        >>> nan_unless(torch.tensor([True, False]), torch.tensor([1.0, 7.0]))
        tensor([1., nan])
    """
    return torch.where(right, values, torch.nan)
