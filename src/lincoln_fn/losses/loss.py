"""The loss protocol.

    value, cache = loss.forward(prediction, target)
    dprediction  = loss.backward(cache, g=1.0)      g is dL/dvalue

A loss of several inputs takes them as a tuple, and its `backward` returns a tuple in their order.
The target is a tensor, a tuple of tensors, or None if the loss compares only its inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NoReturn, TypeAlias

import attrs
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, LayerError, Made, check_functions

Reduction: TypeAlias = Literal["mean", "sum", "none"]


@attrs.frozen(eq=False, repr=False, getstate_setstate=False)
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

    def __attrs_post_init__(self) -> None:
        check_functions("Loss", self.name, forward=self.forward, backward=self.backward)

    def __call__(self, *arguments: object, **options: object) -> NoReturn:
        """Refuse the call of a torch loss: here, a loss also gives the cache for its gradient."""
        call = "value, cache = loss.forward(prediction, target)"
        raise LayerError(self.name, f"expected no call of the loss itself; write {call}")
