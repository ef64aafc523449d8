"""The loss protocol.

    value, cache = loss.forward(prediction, target)
    dprediction  = loss.backward(cache, g=1.0)      g is dL/dvalue

A loss of several inputs takes them as a tuple, and its `backward` returns a tuple in their order.
The target is a tensor, a tuple of tensors, or None if the loss compares only its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NoReturn, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, LayerError, Made, tree, unexpected

Reduction: TypeAlias = Literal["mean", "sum", "none"]


@attrs.frozen(eq=False, repr=False)
class Loss(Made):
    """A loss, as the pure functions that make it.

    Args:
        name: the code that makes the loss; its repr.
        forward: (prediction, target) -> (value, cache).
        backward: (cache, g=1.0) -> dprediction, which mirrors the prediction.
        mixes_examples: whether an example moves the gradients of others, as in a contrast of all
            examples of a batch; None if it is not known. Then what needs the gradient of each
            example's own loss tries it on the first batch.

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
    # ...: g has a default, which Callable cannot express.
    backward: Callable[..., Arrays]
    mixes_examples: bool | None = None

    def __call__(self, *arguments: object, **options: object) -> NoReturn:
        """Refuse the call of a torch loss: here, a loss also gives the cache for its gradient."""
        call = "value, cache = loss.forward(prediction, target)"
        raise LayerError(self.name, f"expected no call of the loss itself; write {call}")


def check_one_number(loss: str, value: Tensor) -> None:
    """Check that the value of a loss is one number."""
    if value.ndim:
        raise unexpected(loss, "one number", tuple(value.shape), "use reduction='mean' or 'sum'")


def check_each_alone(
    where: str, loss: Loss, prediction: Arrays, target: Arrays, *, by_target: bool = True
) -> None:
    """Refuse a loss in which an example moves the gradients of others, for what needs its own.

    If the loss does not say it, it is tried on the prediction. With `by_target`, a target may not
    move them either, as it does in a mean with weights.
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
    expected = "a loss in which no example moves the gradients of others"
    return unexpected(where, expected, loss, "if its mean is to blame, take reduction='sum'")


def moves_others(loss: Loss, prediction: Arrays, target: Arrays, by_target: bool = True) -> bool:
    """Try whether examples move the gradients of others.

    The first half of a batch, and then the first example, takes the place of the others. Its own
    gradients have to stay.
    """
    count = next((len(leaf) for leaf in tree.leaves(prediction) if leaf.ndim), 1)

    def has_batch(leaf: Tensor) -> bool:
        return leaf.ndim > 0 and len(leaf) == count

    def gradients(kept: int) -> list[Tensor]:
        def chosen(leaf: Tensor) -> Tensor:
            order = torch.arange(count, device=leaf.device) % kept
            return leaf.index_select(0, order) if has_batch(leaf) else leaf

        given = tree.map(chosen, target) if by_target else target
        value, cache = loss.forward(tree.map(chosen, prediction), given)
        g = loss.backward(cache, torch.ones_like(value) if value.ndim else 1.0)
        return [leaf.detach()[:kept] for leaf in tree.leaves(g) if has_batch(leaf)]

    if count < 2:
        return False
    whole = gradients(count)
    return not all(
        _is_near(g, other[:kept])
        for kept in {(count + 1) // 2, 1}
        for g, other in zip(gradients(kept), whole, strict=True)
    )


def _is_near(one: Tensor, other: Tensor) -> bool:
    bound = torch.finfo(one.dtype).eps ** 0.5 * float(other.abs().max()) if one.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=bound, equal_nan=True)
