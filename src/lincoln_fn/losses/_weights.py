"""Weights of classes or of elements, as hyperparameters of a loss."""

from __future__ import annotations

import attrs
from torch import Tensor

from lincoln_fn.record import brief
from lincoln_fn.shapes import LayerError


@attrs.frozen(eq=False, repr=False)
class Weights:
    """A copy of a weight that nobody else holds, short in a repr.

    Args:
        loss: the loss's name.
        name: the weight's own name.
        value: the copy.
    """

    loss: str
    name: str
    value: Tensor

    def __repr__(self) -> str:
        return brief(self.value)

    def of_classes(self, n: int, like: Tensor) -> Tensor:
        """Return the weights of n classes, in the dtype and on the device of like."""
        if self.value.shape != (n,):
            shape = tuple(self.value.shape)
            raise LayerError(self.loss, f"expected {self.name} of shape ({n},), got {shape}")
        return self.value.to(like)

    def of_elements(self, like: Tensor) -> Tensor:
        """Return the weights, which broadcast to like, in its dtype and on its device."""
        sizes = zip(reversed(self.value.shape), reversed(like.shape), strict=False)
        if self.value.ndim > like.ndim or any(n not in (1, of) for n, of in sizes):
            shapes = f"{tuple(like.shape)}, got {tuple(self.value.shape)}"
            raise LayerError(
                self.loss, f"expected {self.name} of a shape that broadcasts to {shapes}"
            )
        return self.value.to(like)


def weights_of(
    loss: str, name: str, value: Tensor | None, ndim: int | None = None
) -> Weights | None:
    """Copy a weight, if there is one, and check its dtype and number of axes."""
    if value is None:
        return None
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"{loss}: expected {name} to be a floating tensor, got {brief(value)}")
    if ndim not in (None, value.ndim):
        shape = tuple(value.shape)
        raise ValueError(f"{loss}: expected {name} of {ndim} axis, got shape {shape}")
    return Weights(loss, name, value.detach().clone())
