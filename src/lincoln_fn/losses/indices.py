"""Class indices as labels: one a prediction's row, with class weights and a label to ignore."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lincoln_fn.layer import Cache
from lincoln_fn.losses.labels import Frozen, any_true
from lincoln_fn.losses.loss import spread, value_range
from lincoln_fn.record import record
from lincoln_fn.shapes import LayerError


@record
class Picked:
    """The prediction or its logarithm, each example's label and weight, and which are ignored.

    All have the prediction's axes, with 1 on axis 1 in place of the classes. An ignored example has
    the weight 0, and 0 in place of its label. None stands for weights that are all 1, and where
    nothing is ignored.
    """

    z: Tensor
    index: Tensor
    scale: Tensor | None
    ignored: Tensor | None


def pick(
    name: str, z: Tensor, target: Tensor, weights: Frozen | None, ignore_index: int
) -> tuple[Tensor, Picked]:
    """Take each example's entry of its label.

    Args:
        name: the loss's name.
        z: the prediction, of shape (N, C) or (N, C, ...), classes on axis 1.
        target: class indices of shape (N,) or (N, ...), or (N, 1).
        weights: of the classes.
        ignore_index: the label of examples that do not count.

    Returns:
        The entries, which keep axis 1, and what else is known of the examples.

    Raises:
        LayerError: if the shapes do not fit each other, or a label is no class index.

    Example:
        >>> z_c, picked = pick("nll", torch.tensor([[5.0, 6.0]]), torch.tensor([1]), None, -100)
        >>> z_c, picked
        (tensor([[6.]]), Picked(z=float32[1, 2], index=int64[1, 1], scale=None, ignored=None))
    """
    shape = tuple(z.shape)
    if len(shape) < 2:
        raise LayerError(name, f"expected prediction of shape (N, C) or (N, C, ...), got {shape}")
    is_column = len(shape) == 2 and target.shape == (shape[0], 1)
    if target.shape != (shape[0], *shape[2:]) and not is_column:
        wanted = f"{(shape[0], *shape[2:])} for prediction {shape}"
        raise LayerError(name, f"expected target of shape {wanted}, got {tuple(target.shape)}")
    if target.is_floating_point() or target.is_complex():
        raise LayerError(name, f"expected target of class indices, got {target.dtype}")
    index = target.long().view(shape[0], 1, *shape[2:])
    ignored = _ignored(index, ignore_index)
    if ignored is not None:
        index = index.masked_fill(ignored, 0)
    try:
        z_c = z.gather(1, index)
    except (IndexError, RuntimeError) as error:
        low, high = value_range(index) or (0, 0)
        wrong = low if low < 0 else high
        raise LayerError(name, f"expected labels from 0 to {shape[1] - 1}, got {wrong}") from error
    return z_c, Picked(z, index, _scale(z, index, weights, ignored), ignored)


def _ignored(index: Tensor, ignore_index: int) -> Tensor | None:
    """Find the labels to ignore; None if there are none."""
    try:
        # One look at the least of them is quicker than to compare each.
        if ignore_index < 0 <= index.min().item():
            return None
    except RuntimeError:  # there are no values to look at
        pass
    is_ignored = index == ignore_index
    return is_ignored if any_true(is_ignored) else None


def _scale(
    z: Tensor, index: Tensor, weights: Frozen | None, ignored: Tensor | None
) -> Tensor | None:
    if weights is not None:
        scale = weights.per_class(z.shape[1], z)[index]
        return scale if ignored is None else scale.masked_fill(ignored, 0)
    return None if ignored is None else ignored.logical_not().to(z.dtype)


def weighed(values: Tensor, scale: Tensor | None) -> Tensor:
    """Weigh the values, and take off axis 1.

    Args:
        values: one value an example, with 1 on axis 1.
        scale: the examples' weights; None for ones.

    Returns:
        Their products, 0 where the weight is, even if the value is infinite or nan.

    Example:
        >>> weighed(torch.tensor([[torch.inf], [2.0]]), torch.tensor([[0.0], [3.0]]))
        tensor([0., 6.])
    """
    return (values if scale is None else torch.where(scale != 0, values * scale, 0)).squeeze(1)


def weights_times(dl: Tensor | float, scale: Tensor | None) -> Tensor | float:
    """Weigh dl, and give it axis 1.

    Args:
        dl: a number, or a tensor of shape () or with one number an example.
        scale: the examples' weights; None for ones.

    Returns:
        What broadcasts against the prediction.

    Example:
        >>> weights_times(torch.tensor([1.0, 2.0]), torch.tensor([[3.0], [4.0]]))
        tensor([[3.],
                [8.]])
    """
    return spread(dl, 1) if scale is None else scale * spread(dl, 1)


def counting(name: str, ignore_index: int) -> Callable[[Cache], Tensor | None]:
    """Make the function that gives what a mean divides by: the sum of the examples' weights.

    Args:
        name: the loss's name.
        ignore_index: the label of examples that do not count.

    Returns:
        cache -> the sum of `cache.scale`, or None where there are no weights. It raises a
        LayerError if the sum is 0.

    Example:
        >>> one = torch.ones(1, 1)
        >>> counting("nll", -100)(Picked(one, one, one * 0, None))
        Traceback (most recent call last):
        lincoln_fn.shapes.LayerError: nll: expected labels to average over, got only \
ignore_index=-100 or labels of weight 0
    """

    def count(cache: Cache) -> Tensor | None:
        if cache.scale is None:
            return None
        n: Tensor = cache.scale.sum()
        if not any_true(n):
            got = f"ignore_index={ignore_index} or labels of weight 0"
            raise LayerError(name, f"expected labels to average over, got only {got}")
        return n

    return count
