"""Weights of classes or of elements, as hyperparameters of a loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Final, TypeAlias

import attrs
from torch import Tensor

from lincoln_fn.core import Arrays, LayerError, Range, arguments_of, format_briefly


def _is_finite(weight: Tensor) -> bool:
    return weight.is_meta or bool(((weight >= 0) & (weight < math.inf)).all())


_OF_FLOATS: Final = Range("of a floating dtype", Tensor.is_floating_point)
_OF_ONE_AXIS: Final = Range("of 1 axis", lambda weight: weight.ndim == 1)
_FINITE: Final = Range("of finite numbers of at least 0", _is_finite)

ElementWeights: TypeAlias = Annotated[Tensor, _OF_FLOATS, _FINITE]
ClassWeights: TypeAlias = Annotated[Tensor, _OF_FLOATS, _OF_ONE_AXIS, _FINITE]


@attrs.frozen(eq=False, repr=False)
class Weights:
    """A private copy of a weight, with a short repr.

    Args:
        loss: the loss's name.
        name: the weight's own name.
        value: the copy.
    """

    loss: str
    name: str
    value: Tensor

    def __repr__(self) -> str:
        return format_briefly(self.value)

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


def with_copies(loss: str, function: Callable[..., Arrays]) -> Callable[..., Arrays]:
    """Bind copies of the weights among a function's options in place of them."""
    weights = {
        key: Weights(loss, key, option.clone())
        for key, option in arguments_of(function).items()
        if isinstance(option, Tensor)
    }
    return partial(function, **weights) if weights else function
