"""Predictions whose classes lie side by side in memory, taken as rows: (N, C, ...) as (N ..., C).

That is how a dense layer's outputs lie when `permute` has put the classes on axis 1, as for a
sequence. By rows, softmax runs along the memory, and neither x nor its gradient is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

from lincoln_fn.layer import Cache
from lincoln_fn.record import record, static

Values: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Any]]  # Any: what the loss keeps
Slope: TypeAlias = Callable[[Any, Tensor | float], Tensor]  # Any: as above


@record
class ByRows:
    """What a loss of rows kept, and the prediction's shape, with the classes last."""

    kept: Cache
    shape: tuple[int, ...] = static()


def by_rows(values: Values, slope: Slope) -> tuple[Values, Slope]:
    """Let a loss of (N, C) and (N, C, ...) have rows where the prediction lies so.

    Args:
        values: (x, target) -> (l, kept), with the classes on axis 1.
        slope: (kept, dl) -> dx.

    Returns:
        Both, for the same x, target and dl; kept is in a `ByRows` where x was taken as rows.

    Example:
        >>> double = by_rows(lambda x, t: (2 * x.sum(1), None), lambda kept, dl: dl * kept)[0]
        >>> double(torch.ones(2, 5, 3).transpose(1, 2), torch.ones(2, 5))[0].shape
        torch.Size([2, 5])
    """

    def values_by_rows(x: Tensor, target: Tensor) -> tuple[Tensor, Any]:  # Any: as above
        if x.ndim < 3 or x.stride(1) != 1:
            return values(x, target)
        moved = x.movedim(1, -1)
        if target.shape == moved.shape[:-1]:
            labels = target.reshape(-1)
        elif target.shape == x.shape:
            labels = target.movedim(1, -1).reshape(-1, x.shape[1])
        else:
            return values(x, target)  # which says what is wrong
        elements, kept = values(moved.reshape(-1, x.shape[1]), labels)
        return elements.view(moved.shape[:-1]), ByRows(kept, tuple(moved.shape))

    def slope_by_rows(kept: Any, dl: Tensor | float) -> Tensor:  # Any: as above
        if not isinstance(kept, ByRows):
            return slope(kept, dl)
        if isinstance(dl, Tensor) and dl.ndim:
            dl = dl.reshape(-1)
        return slope(kept.kept, dl).view(kept.shape).movedim(-1, 1)

    return values_by_rows, slope_by_rows
