"""The memory layout in which the CPU's kernels over planes are fastest: channels last.

In it a vector register holds neighbouring channels. Max-pooling takes a tenth of the time, a
convolution half. With fewer channels than four it does not pay.
"""

from __future__ import annotations

from torch import Tensor


def channels_last(x: Tensor, channels: int | None = None) -> Tensor:
    """Give images the layout in which the CPU's kernels over planes are fastest.

    Args:
        x: of any shape; images are (batch, channels, height, width).
        channels: the most that x and what is computed from it have; None for those of x.

    Returns:
        The same numbers.

    Example:
        >>> channels_last(torch.zeros(2, 8, 5, 5)).stride()
        (200, 1, 40, 8)
    """
    if not _pays(x, channels):
        return x
    if x.shape[1] == 1:  # the same layout already, which only the strides have to tell
        return x.squeeze(1).unsqueeze(-1).permute(0, 3, 1, 2)
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def unwritten(x: Tensor) -> Tensor:
    """Allocate memory of the shape and layout of `channels_last(x)`, for kernels that read these.

    Args:
        x: of any shape; its numbers and its own layout do not count.

    Returns:
        A tensor whose numbers are not set.

    Example:
        >>> unwritten(torch.zeros(()).expand(2, 8, 5, 5)).stride()
        (200, 1, 40, 8)
    """
    if not _pays(x):
        return x.new_empty(x.shape)
    n, channels, height, width = x.shape
    return x.new_empty((n, height, width, channels)).permute(0, 3, 1, 2)


def _pays(x: Tensor, channels: int | None = None) -> bool:
    return x.ndim == 4 and x.device.type == "cpu" and (channels or x.shape[1]) >= 4
