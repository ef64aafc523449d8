"""Shared by layers over spatial axes: numbers by axis and an image's shape."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import LayerError

Sizes = tuple[int, ...]


def per_axis(layer: str, name: str, value: int | Sizes, n: int) -> Sizes:
    """Write a hyperparameter as one number for each spatial axis."""
    values = (value,) * n if isinstance(value, int) else value
    if type(values) is not tuple or len(values) != n:
        raise LayerError(layer, f"expected {name} as an int or a tuple of {n}, got {value!r}")
    return values


def check_image(layer: str, x: Tensor, n: int, channels: int | None = None) -> None:
    """Check that an input has channels, n spatial axes and at most one axis before them."""
    if x.ndim in (n + 1, n + 2) and channels in (None, x.shape[-n - 1]):
        return
    inner = f"{channels or 'channels'}, {', '.join(('d', 'h', 'w')[-n:] if n > 1 else 'l')}"
    problem = f"expected x of shape ({inner}) or (batch, {inner}), got {tuple(x.shape)}"
    is_last = channels is not None and x.ndim in (n + 1, n + 2) and channels == x.shape[-1]
    mend = f"; write x.movedim(-1, -{n + 1}), which has the channels first" if is_last else ""
    raise LayerError(layer, f"{problem}{mend}")
