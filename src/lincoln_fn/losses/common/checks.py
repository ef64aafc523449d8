"""Reading targets: of the prediction's shape, as signs, as probabilities, as class indices.

And checks that predictions are probabilities or their logarithms, not logits. They read the values,
which takes longer than a small loss: `forward` does so every time, a training step only at step 0.
"""

from __future__ import annotations

import math
import warnings
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Sizes, is_between, unexpected

# A logarithm computed in a short dtype may be above 0 because of rounding, and so may values that a
# finite difference has changed.
TOLERANCE: Final = 1e-3
# How far the sum of the classes' probabilities may be from 1; in bfloat16 it is not exactly 1.
SUM_TOLERANCE: Final = 0.1


def same_shape(name: str, target: Tensor, prediction: Tensor) -> Tensor:
    """Read a target of the prediction's shape, in the prediction's dtype."""
    check_shape(name, target, tuple(prediction.shape), prediction)
    return target.to(prediction.dtype)


def check_shape(name: str, target: Tensor, shape: tuple[int, ...], prediction: Tensor) -> None:
    """Check that the target has the expected shape; the error names the prediction's."""
    if target.shape != shape:
        expected = f"target of shape {shape} for prediction {tuple(prediction.shape)}"
        raise unexpected(name, expected, target.shape)


def signs(name: str, target: Tensor, prediction: Tensor, shape: Sizes | None = None) -> Tensor:
    """Read labels that are -1 or 1, of a shape or the prediction's, in its dtype."""
    check_shape(name, target, tuple(prediction.shape) if shape is None else shape, prediction)
    y = target.to(prediction.dtype)
    return right_values(name, "labels -1 or 1", y, y.abs() == 1)


def probabilities(name: str, target: Tensor, prediction: Tensor) -> Tensor:
    """Read labels from 0 to 1, in the prediction's dtype and shape; for (..., 1), also in (...)."""
    if target.shape != prediction.shape and (*target.shape, 1) != prediction.shape:
        shape = tuple(prediction.shape)
        wanted = f"{shape[:-1]} or {shape}" if shape[-1:] == (1,) else f"{shape}"
        raise unexpected(name, f"target of shape {wanted} for prediction {shape}", target.shape)
    y = target.to(prediction.dtype).reshape(prediction.shape)
    if all_within(y, 0, 1):  # which takes a small loss less time than to compare each label
        return y
    return right_values(name, "labels 0 or 1, or between them", y, (y >= 0) & (y <= 1))


def hard_labels(name: str, target: Tensor, prediction: Tensor) -> Tensor:
    """Read labels that are 0 or 1, in the prediction's shape and dtype."""
    y = probabilities(name, target, prediction)
    return right_values(name, "labels 0 or 1", y, (y == 0) | (y == 1))


def right_values(name: str, wanted: str, values: Tensor, are_right: Tensor) -> Tensor:
    """Refuse a wrong value. One that cannot be read becomes nan: a step refuses a loss of nan."""
    is_right = all_within(are_right, 1, 1)
    if is_right is None:
        return torch.where(are_right, values, torch.nan)
    if not is_right:
        raise unexpected(name, wanted, f"{values[~are_right][0].item():g}")
    return values


def class_indices(name: str, target: Tensor, lowest: int, classes: int) -> Tensor:
    """Read integers from `lowest` to classes - 1, as int64."""
    check_integers(name, target)
    check_between(name, "labels", target, lowest, classes - 1)
    return target.long()


def check_classes_last(name: str, x: Tensor) -> int:
    """Check that the prediction has shape (N, C) or (C), and return C."""
    if x.ndim not in (1, 2):
        raise unexpected(name, "prediction of shape (N, C) or (C)", x.shape)
    return x.shape[-1]


def check_vector(name: str, what: str, given: Tensor) -> None:
    """Check that a tensor has at least one axis."""
    if given.ndim == 0:
        raise unexpected(name, f"{what} of shape (..., D)", "()")


def check_same_shape(name: str, what: str, given: Tensor, other: str, like: Tensor) -> None:
    """Check that a tensor has another's shape."""
    if given.shape != like.shape:
        raise unexpected(name, f"{what} of {other}'s shape {tuple(like.shape)}", tuple(given.shape))


def check_integers(name: str, target: Tensor) -> None:
    """Check that the target is of class indices."""
    if target.is_floating_point() or target.is_complex():
        mend = "convert it by .long()" if target.is_floating_point() else ""
        raise unexpected(name, "target of class indices", target.dtype, mend)


def check_between(name: str, what: str, given: Tensor, lowest: int, highest: int) -> None:
    """Check that all values are in [lowest, highest], if they can be read."""
    wrong = outside(given, lowest, highest)
    if wrong is not None:
        raise unexpected(name, f"{what} from {lowest} to {highest}", wrong)


def outside(values: Tensor, lowest: float, highest: float) -> float | None:
    """Find the smallest or largest value that is not in [lowest, highest]; nan never is."""
    if all_within(values, lowest, highest) is not False:
        return None
    low, high = (end.item() for end in torch.aminmax(values))
    return high if low >= lowest else low


def all_within(values: Tensor, lowest: float, highest: float) -> bool | None:
    """Return whether all values are in [lowest, highest]; nan never is.

    None where no values can be read: in an empty or a `meta` tensor, in a trace, under `vmap`.
    """
    try:
        low, high = torch.aminmax(values)
        return is_between(lowest, low, math.inf) and is_between(-math.inf, high, highest)
    except RuntimeError:
        return None


def any_true(mask: Tensor) -> bool:
    """Return False only if the mask is known to be False everywhere."""
    try:
        return bool(torch.any(mask).item())
    except RuntimeError:
        return True


def check_probabilities(name: str, mend: str, p: Tensor, target: Arrays) -> None:
    """Check that values are in [0, 1]."""
    wrong = _beyond(p, -TOLERANCE, 1 + TOLERANCE)
    if wrong is not None:
        raise unexpected(name, "probabilities, in [0, 1]", f"{wrong:g}", mend)


def check_distribution(name: str, mend: str, p: Tensor, target: Arrays, *, dim: int = 1) -> None:
    """Warn, once per process, if probabilities do not sum to 1 over axis dim."""
    check_probabilities(name, mend, p, target)
    if p.ndim > 1 and _wrong_sum(p.detach().float().sum(dim)) is not None:
        # Without the number, because Python shows each text only once.
        problem = "expected the classes' probabilities of each example to sum to 1, and some do not"
        warnings.warn(f"{name}: {problem}; {mend}", UserWarning, stacklevel=2)


def check_log_probabilities(name: str, mend: str, z: Tensor, target: Arrays) -> None:
    """Check that values are at most 0."""
    wrong = _beyond(z, -math.inf, TOLERANCE)
    if wrong is not None:
        raise unexpected(name, "log-probabilities, at most 0", f"{wrong:g}", mend)


def check_log_distribution(
    name: str, mend: str, z: Tensor, target: Arrays, *, dim: int = 1
) -> None:
    """Check that values are logarithms of probabilities that sum to 1 over axis dim."""
    check_log_probabilities(name, mend, z, target)
    wrong = _wrong_sum(torch.logsumexp(z.detach().float(), dim).exp()) if z.ndim > 1 else None
    if wrong is not None:
        expected = "log-probabilities of classes that sum to 1"
        raise unexpected(name, expected, f"a sum of {wrong:g}", mend)


def _beyond(values: Tensor, lowest: float, highest: float) -> float | None:
    # A step reports better where a nan comes from.
    wrong = outside(values, lowest, highest)
    return None if wrong is None or math.isnan(wrong) else wrong


def _wrong_sum(sums: Tensor) -> float | None:
    return _beyond(sums, 1 - SUM_TOLERANCE, 1 + SUM_TOLERANCE)
