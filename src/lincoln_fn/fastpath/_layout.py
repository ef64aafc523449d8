"""The memory layout in which the CPU's kernels over planes are fastest: channels-last.

With this layout a vector register holds neighbouring channels. Max-pooling takes a tenth of the
time, a convolution half. With fewer than four channels nothing is gained.
"""

from __future__ import annotations

from torch import Tensor


def channels_last(x: Tensor, channels: int | None = None) -> Tensor:
    """Copy (batch, channels, height, width) to channels-last, if x or y has enough channels."""
    if not _pays(x, channels):
        return x
    if x.shape[1] == 1:  # the layout is the same already; only the strides have to say so
        return x.squeeze(1).unsqueeze(-1).permute(0, 3, 1, 2)
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def empty_like(x: Tensor) -> Tensor:
    """Allocate memory of the shape and layout of `channels_last(x)`, for kernels that read both."""
    if not _pays(x):
        return x.new_empty(x.shape)
    n, channels, height, width = x.shape
    return x.new_empty((n, height, width, channels)).permute(0, 3, 1, 2)


def _pays(x: Tensor, channels: int | None = None) -> bool:
    return x.ndim == 4 and x.device.type == "cpu" and (channels or x.shape[1]) >= 4
