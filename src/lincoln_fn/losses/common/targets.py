"""Reading targets: of the prediction's shape, as signs, as probabilities, as class indices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lincoln_fn.core import LayerError, is_between


def same_shape(name: str, target: Tensor, prediction: Tensor) -> Tensor:
    """Read a target of the prediction's shape, in the prediction's dtype."""
    check_shape(name, target, tuple(prediction.shape), prediction)
    return target.to(prediction.dtype)


def check_shape(name: str, target: Tensor, shape: tuple[int, ...], prediction: Tensor) -> None:
    """Check that the target has the expected shape; the error names the prediction's."""
    if target.shape != shape:
        wanted = f"{shape} for prediction {tuple(prediction.shape)}"
        raise LayerError(name, f"expected target of shape {wanted}, got {tuple(target.shape)}")


def signs(
    name: str, target: Tensor, prediction: Tensor, shape: tuple[int, ...] | None = None
) -> Tensor:
    """Read labels that are -1 or 1, of a shape or the prediction's, in its dtype."""
    check_shape(name, target, tuple(prediction.shape) if shape is None else shape, prediction)
    y = target.to(prediction.dtype)
    are_signs = all_within(y.abs(), 1, 1)
    if are_signs is None:
        return nan_unless(y.abs() == 1, y)
    if not are_signs:
        wrong = y[y.abs() != 1][0].item()
        raise LayerError(name, f"expected labels -1 or 1, got {wrong:g}")
    return y


def probabilities(name: str, target: Tensor, prediction: Tensor) -> Tensor:
    """Read labels from 0 to 1, in the prediction's shape and dtype.

    For a prediction of shape (..., 1), labels of shape (...) are accepted too.
    """
    if target.shape != prediction.shape and (*target.shape, 1) != prediction.shape:
        shape = tuple(prediction.shape)
        wanted = f"{shape[:-1]} or {shape}" if shape[-1:] == (1,) else f"{shape}"
        problem = f"expected target of shape {wanted} for prediction {shape}, got"
        raise LayerError(name, f"{problem} {tuple(target.shape)}")
    y = target.to(prediction.dtype).reshape(prediction.shape)
    are_probabilities = all_within(y, 0, 1)
    if are_probabilities is None:
        return nan_unless((y >= 0) & (y <= 1), y)
    if not are_probabilities:
        wrong = outside(y, 0, 1)
        raise LayerError(name, f"expected labels 0 or 1, or between them, got {wrong:g}")
    return y


def hard_labels(name: str, target: Tensor, prediction: Tensor) -> Tensor:
    """Read labels that are 0 or 1, in the prediction's shape and dtype."""
    y = probabilities(name, target, prediction)
    is_soft = (y != 0) & (y != 1)
    are_hard = all_within(is_soft, 0, 0)
    if are_hard is None:
        return nan_unless(~is_soft, y)
    if not are_hard:
        raise LayerError(name, f"expected labels 0 or 1, got {y[is_soft][0].item():g}")
    return y


def class_indices(name: str, target: Tensor, lowest: int, classes: int) -> Tensor:
    """Read integers from `lowest` to classes - 1, as int64."""
    check_integers(name, target)
    check_between(name, "labels", target, lowest, classes - 1)
    return target.long()


def check_classes_last(name: str, x: Tensor) -> int:
    """Check that the prediction has shape (N, C) or (C), and return C."""
    if x.ndim not in (1, 2):
        raise LayerError(name, f"expected prediction of shape (N, C) or (C), got {tuple(x.shape)}")
    return x.shape[-1]


def check_vector(name: str, what: str, given: Tensor) -> None:
    """Check that a tensor has at least one axis."""
    if given.ndim == 0:
        raise LayerError(name, f"expected {what} of shape (..., D), got ()")


def check_same_shape(name: str, what: str, given: Tensor, other: str, like: Tensor) -> None:
    """Check that a tensor has another's shape."""
    if given.shape != like.shape:
        shapes = f"{other}'s shape {tuple(like.shape)}, got {tuple(given.shape)}"
        raise LayerError(name, f"expected {what} of {shapes}")


def check_integers(name: str, target: Tensor) -> None:
    """Check that the target is of class indices."""
    if target.is_floating_point() or target.is_complex():
        mend = "convert it by .long()" if target.is_floating_point() else ""
        problem = f"expected target of class indices, got {target.dtype}"
        raise LayerError(name, f"{problem}; {mend}" if mend else problem)


def check_between(name: str, what: str, given: Tensor, lowest: int, highest: int) -> None:
    """Check that all values are in [lowest, highest], if they can be read."""
    wrong = outside(given, lowest, highest)
    if wrong is not None:
        raise LayerError(name, f"expected {what} from {lowest} to {highest}, got {wrong}")


def outside(values: Tensor, lowest: float, highest: float) -> float | None:
    """Find the smallest or largest value that is not in [lowest, highest]; nan never is."""
    if all_within(values, lowest, highest) is not False:
        return None
    low, high = (end.item() for end in torch.aminmax(values))
    return high if low >= lowest else low


def all_within(values: Tensor, lowest: float, highest: float) -> bool | None:
    """Return whether all values are in [lowest, highest]; nan never is.

    None where there are no values to read: in an empty or a `meta` tensor, while a step is traced,
    under `torch.func.vmap`.
    """
    try:
        low, high = torch.aminmax(values)
        return is_between(lowest, low, math.inf) and is_between(-math.inf, high, highest)
    except RuntimeError:
        return None


def nan_unless(right: Tensor, values: Tensor) -> Tensor:
    """Replace wrong values that cannot be read by nan: a step refuses a loss of nan."""
    return torch.where(right, values, torch.nan)


def any_true(mask: Tensor) -> bool:
    """Return False only if the mask is known to be False everywhere."""
    try:
        return bool(torch.any(mask).item())
    except RuntimeError:
        return True
