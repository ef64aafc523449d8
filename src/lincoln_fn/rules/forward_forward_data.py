"""Inputs with labels in them, for Forward-Forward: true ones and false ones."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, LayerError, at_least, check_argument, format_briefly, keys
from lincoln_fn.losses.internal import check_between

Classes: TypeAlias = Annotated[int, at_least(2)]


def with_label(
    x: Float[Tensor, " batch *features"], labels: Int[Tensor, " batch"], n_classes: int
) -> Float[Tensor, " batch *features"]:
    """Replace the first numbers of each example by its one-hot label.

    Args:
        x: the examples, of at least n_classes numbers each.
        labels: class indices below n_classes.
        n_classes: the number of classes.

    Returns:
        Examples of x's shape.

    Raises:
        LayerError: if an example has fewer numbers than there are classes, or the labels are not
            one class index for each.

    Example:
        >>> with_label(torch.zeros(2, 4), torch.tensor([0, 2]), 3)
        tensor([[1., 0., 0., 0.],
                [0., 0., 1., 0.]])
    """
    if x.ndim < 2 or x[0].numel() < n_classes:
        problem = (
            f"expected x with at least {n_classes} numbers an example, got {format_briefly(x)}"
        )
        raise LayerError("with_label", problem)
    fits = isinstance(labels, Tensor) and labels.shape == x.shape[:1]
    if not fits or labels.is_floating_point():
        expected = f"labels to be class indices of shape ({len(x)},)"
        raise LayerError("with_label", f"expected {expected}, got {format_briefly(labels)}")
    if labels.device != x.device:
        raise LayerError("with_label", f"expected labels on {x.device}, got {labels.device}")
    check_between("with_label", "labels", labels, 0, n_classes - 1)
    flat = x.flatten(1)
    classes = torch.arange(n_classes, device=x.device)
    hot = (labels.unsqueeze(1) == classes).to(x.dtype)
    return torch.cat((hot, flat[:, n_classes:]), 1).view(x.shape)


def true_and_false_labels(
    key: Key, x: Float[Tensor, " batch *features"], labels: Int[Tensor, " batch"], n_classes: int
) -> tuple[Float[Tensor, " 2*batch *features"], Float[Tensor, " 2*batch"]]:
    """Make a batch for Forward-Forward: each example with its own label, and with a false one.

    Args:
        key: the false labels are drawn from it, uniformly.
        x: the examples, as `with_label` takes them.
        labels: their class indices.
        n_classes: the number of classes, at least 2.

    Returns:
        The examples with true labels and then those with false ones; and the target, 1 for true and
        0 for false.

    Raises:
        LayerError: as `with_label` does, or if n_classes is below 2.

    Example:
        >>> x, target = true_and_false_labels(lf.Key(0), torch.ones(1, 3), torch.tensor([1]), 2)
        >>> x, target
        (tensor([[0., 1., 1.],
                [1., 0., 1.]]), tensor([1., 0.]))
    """
    check_argument("true_and_false_labels", "n_classes", Annotated[int, at_least(2)], n_classes)
    true = with_label(x, labels, n_classes)
    drawn = keys.uniform(
        core.checked_key("true_and_false_labels", key).near(x), tuple(labels.shape)
    )
    others = (labels + 1 + (drawn * (n_classes - 1)).long()) % n_classes
    target = torch.cat((x.new_ones(len(x)), x.new_zeros(len(x))))
    return torch.cat((true, with_label(x, others, n_classes))), target
