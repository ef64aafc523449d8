"""Reading targets: of the prediction's shape, as signs, as probabilities; and frozen weights."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from lincoln_fn.losses.loss import nan_unless, value_range
from lincoln_fn.record import brief
from lincoln_fn.shapes import LayerError


def same_shape(name: str, target: Tensor, like: Tensor) -> Tensor:
    """Read a target that has one value for each of the prediction's.

    Args:
        name: the loss's name.
        target: the target, of any dtype.
        like: the prediction.

    Returns:
        The target in the prediction's dtype.

    Raises:
        LayerError: if the shapes differ.

    Example:
        >>> same_shape("mse", torch.tensor([1, 2]), torch.zeros(2))
        tensor([1., 2.])
    """
    check_target_shape(name, target, tuple(like.shape), like)
    return target.to(like.dtype)


def check_target_shape(name: str, target: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    """Check a target's shape.

    Args:
        name: the loss's name.
        target: the target.
        shape: what it should have.
        like: the prediction, which the error speaks of.

    Raises:
        LayerError: if it has another.
    """
    if target.shape != shape:
        wanted = f"{shape} for prediction {tuple(like.shape)}"
        raise LayerError(name, f"expected target of shape {wanted}, got {tuple(target.shape)}")


def signs(name: str, target: Tensor, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Read labels that are -1 or 1.

    Args:
        name: the loss's name.
        target: the labels.
        shape: what they should have.
        like: the prediction.

    Returns:
        The labels in the prediction's dtype.

    Raises:
        LayerError: if there is another label, or the shape is another.

    Example:
        >>> signs("soft_margin", torch.tensor([1, -1]), (2,), torch.zeros(2))
        tensor([ 1., -1.])
    """
    check_target_shape(name, target, shape, like)
    y = target.to(like.dtype)
    ends = value_range(y.abs())
    if ends is None:
        return nan_unless(y.abs() == 1, y)
    if ends != (1, 1):
        wrong = y[y.abs() != 1][0].item()
        raise LayerError(name, f"expected labels -1 or 1, got {wrong:g}")
    return y


def probabilities(name: str, prediction: Tensor, target: Tensor) -> Tensor:
    """Read labels as probabilities of class 1.

    Args:
        name: the loss's name.
        prediction: the prediction.
        target: the labels, of its shape or, for a prediction of shape (..., 1), of shape (...).

    Returns:
        The labels in the prediction's shape and dtype.

    Raises:
        LayerError: if the shape is another, or a label is not within [0, 1].

    Example:
        >>> probabilities("log_loss", torch.zeros(2, 1), torch.tensor([1, 0]))
        tensor([[1.],
                [0.]])
    """
    if target.shape != prediction.shape and (*target.shape, 1) != prediction.shape:
        shape = tuple(prediction.shape)
        wanted = f"{shape[:-1]} or {shape}" if shape[-1:] == (1,) else f"{shape}"
        problem = f"expected target of shape {wanted} for prediction {shape}, got"
        raise LayerError(name, f"{problem} {tuple(target.shape)}")
    y = target.to(prediction.dtype).view(prediction.shape)
    ends = value_range(y)
    if ends is None:
        return nan_unless((y >= 0) & (y <= 1), y)
    if not (ends[0] >= 0 and ends[1] <= 1):
        wrong = ends[0] if not ends[0] >= 0 else ends[1]
        raise LayerError(name, f"expected labels 0 or 1, or between them, got {wrong:g}")
    return y


@attrs.frozen(eq=False, repr=False)
class Frozen:
    """A weight as part of a loss's value: a copy that nobody else holds, short in a repr.

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

    def per_class(self, n: int, like: Tensor) -> Tensor:
        """Give the weights of n classes.

        Args:
            n: how many there are.
            like: the prediction.

        Returns:
            The weight, of shape (n,), in the prediction's dtype and on its device.

        Raises:
            LayerError: if the weight is of another number of classes.
        """
        if self.value.shape != (n,):
            shape = tuple(self.value.shape)
            raise LayerError(self.loss, f"expected {self.name} of shape ({n},), got {shape}")
        return self.value.to(like)

    def broadcast(self, like: Tensor) -> Tensor:
        """Give the weight of each of the prediction's elements.

        Args:
            like: the prediction.

        Returns:
            The weight, which broadcasts to the prediction, in its dtype and on its device.

        Raises:
            LayerError: if it does not broadcast to the prediction.
        """
        sizes = zip(reversed(self.value.shape), reversed(like.shape), strict=False)
        if self.value.ndim > like.ndim or any(n not in (1, of) for n, of in sizes):
            shapes = f"{tuple(like.shape)}, got {tuple(self.value.shape)}"
            raise LayerError(
                self.loss, f"expected {self.name} of a shape that broadcasts to {shapes}"
            )
        return self.value.to(like)


def frozen(name: str, what: str, value: Tensor | None, ndim: int | None = None) -> Frozen | None:
    """Freeze a weight, if there is one.

    Args:
        name: the loss's name.
        what: the weight's own name.
        value: the weight, or None.
        ndim: how many axes it must have; None for any number.

    Returns:
        The frozen weight, or None.

    Raises:
        ValueError: if it is not a floating tensor with so many axes.

    Example:
        >>> frozen("nll", "weight", torch.ones(3)), frozen("nll", "weight", None)
        (float32[3], None)
    """
    if value is None:
        return None
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"{name}: expected {what} to be a floating tensor, got {brief(value)}")
    if ndim not in (None, value.ndim):
        shape = tuple(value.shape)
        raise ValueError(f"{name}: expected {what} of {ndim} axis, got shape {shape}")
    return Frozen(name, what, value.detach().clone())


def any_true(mask: Tensor) -> bool:
    """Tell whether a mask may be true somewhere.

    Args:
        mask: a bool tensor.

    Returns:
        False only if it is known to be false everywhere; True, too, where there are no values to
        look at.

    Example:
        >>> any_true(torch.tensor([False, True]))
        True
    """
    try:
        return bool(torch.any(mask).item())
    except RuntimeError:
        return True
