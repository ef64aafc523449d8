"""Losses in which an example moves the gradients of others, as a contrast of all examples does.

Whether a loss is one stands in its `mixes_examples`. Of a loss of one's own, and of a mean over a
number that the targets decide, it is not known, and tried: the first half of a batch, and then the
first example, takes the place of the others, and its gradients have to stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, LayerError, tree
from lincoln_fn.losses.loss import Loss


def check_each_alone(
    where: str, loss: Loss, prediction: Arrays, target: Arrays, *, by_target: bool = True
) -> None:
    """Refuse a loss in which an example moves the gradients of others.

    Args:
        where: what needs the gradient of each example's own loss, for the error.
        prediction: on which it is tried, if it does not say what it is.
        target: its target.
        by_target: whether a target may not move them either, as it does in a mean with weights.
    """
    mixes = loss.mixes_examples
    if moves_others(loss, prediction, target, by_target) if mixes is None else mixes:
        raise mixing(where, loss)


def mix_of(losses: Iterable[Loss]) -> bool | None:
    """Return whether a sum of losses mixes the examples; None if that is not known."""
    each = [loss.mixes_examples for loss in losses]
    return True if True in each else None if None in each else False


def mixing(where: str, loss: Loss) -> LayerError:
    """Make the error about such a loss."""
    problem = f"expected a loss in which no example moves the gradients of others, got {loss}"
    return LayerError(where, f"{problem}; if its mean is to blame, take reduction='sum'")


def moves_others(loss: Loss, prediction: Arrays, target: Arrays, by_target: bool = True) -> bool:
    """Return whether the other examples move the gradients of the first half, or of the first."""
    batched = next((leaf for leaf in tree.leaves(prediction) if leaf.ndim), None)
    if batched is None:
        return False
    count, places = len(batched), torch.arange(len(batched), device=batched.device)
    gradients = partial(_gradients, loss, prediction, target, by_target=by_target)
    whole = gradients(places)
    for kept in {(count + 1) // 2, 1} if count > 1 else ():
        gs = gradients(places % kept)
        if not all(_is_near(g[:kept], other[:kept]) for g, other in zip(gs, whole, strict=True)):
            return True
    return False


def _gradients(
    loss: Loss, prediction: Arrays, target: Arrays, order: Tensor, *, by_target: bool
) -> list[Tensor]:
    """Compute the gradients of a batch in which examples stand in the places of others."""

    def has_batch(leaf: Tensor) -> bool:
        return leaf.ndim > 0 and len(leaf) == len(order)

    def chosen(leaf: Tensor) -> Tensor:
        return leaf.index_select(0, order.to(leaf.device)) if has_batch(leaf) else leaf

    given = tree.map(chosen, target) if by_target else target
    value, cache = loss.forward(tree.map(chosen, prediction), given)
    g = loss.backward(cache, torch.ones_like(value) if value.ndim else 1.0)
    return [leaf.detach() for leaf in tree.leaves(g) if has_batch(leaf)]


def _is_near(one: Tensor, other: Tensor) -> bool:
    bound = torch.finfo(one.dtype).eps ** 0.5 * float(other.abs().max()) if one.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=bound, equal_nan=True)
