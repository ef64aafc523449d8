"""The check that a loss is one number, as its gradient asks."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import LayerError


def check_one_number(loss: str, value: Tensor) -> None:
    """Check that the value of a loss is one number.

    Example:
        >>> check_one_number("mse(reduction='none')", torch.ones(3))
        Traceback (most recent call last):
        lincoln_fn.LayerError: mse(reduction='none'): expected one number, got (3,); use \
reduction='mean' or 'sum'
    """
    if value.ndim:
        mend = "use reduction='mean' or 'sum'"
        raise LayerError(loss, f"expected one number, got {tuple(value.shape)}; {mend}")
