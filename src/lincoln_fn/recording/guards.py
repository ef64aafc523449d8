"""What torch tells only by its private parts: layouts compared in one call, and modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import is_transformed
from lincoln_fn.recording.structures import layouts

# A function of as many tensors as it was made of.
Fits: TypeAlias = Callable[..., bool]


def fits_like(tensors: Sequence[Tensor]) -> Fits:
    """Make a function that compares tensors' shapes, strides, dtypes and devices with these."""
    try:
        guards: Any = torch._C._dynamo.guards  # Any: torch does not say what is in there
        fits: Fits = guards.TensorGuards(
            *tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None
        ).check
        return fits
    except (AttributeError, TypeError):  # a torch without this name
        kind = layouts(tensors)
        return lambda *others: layouts(others) == kind and not is_transformed(*others)


def has_mode() -> bool:
    """Return whether a mode sees each operation, or each function, that is called."""
    return bool(torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack())
