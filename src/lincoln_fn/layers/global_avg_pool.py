"""Global average pooling: y is the mean of each channel over all spatial axes.

Derivation. With N spatial positions,

    y_(bc) = (1 / N) sum_i x_(bci)
    (dy_(bc))/(dx_(bci)) = 1 / N
    dx_(bci) = g_(bc) / N

the same at every position.

Cache: the shapes of x and y. Source: Lin, Chen and Yan, "Network In Network" (2013), section 3.2.
"""

from __future__ import annotations

from math import prod

from lincoln_fn import core
from lincoln_fn.core import Channels, Layer, Moved, StandIns, bare, constructor, stand_ins


def forward(params: tuple[()], x: Channels, *, keepdim: bool) -> tuple[Moved, StandIns]:
    """Compute y_bc = (1 / N) sum_i x_bci."""
    if x.ndim < 3 or 0 in x.shape[2:]:
        raise core.wrong_shape("global_avg_pool", "x", x, "(batch, channels, *spatial)")
    y = x.mean(tuple(range(2, x.ndim)), keepdim=keepdim)
    return y, stand_ins(x, y)


def backward(params: tuple[()], cache: StandIns, g: Moved) -> tuple[Channels, tuple[()]]:
    """Compute dx_bci = g_bc / N, whose positions share their memory."""
    batch, channels, *spatial = cache.x.shape
    share = (g / prod(spatial)).reshape(batch, channels, *(1 for _ in spatial))
    return share.expand(cache.x.shape), ()


@constructor(kind="average")
def global_avg_pool(*, keepdim: bool = False) -> Layer:
    """Make a global average pooling of x of shape (batch, channels, *spatial).

    y is the mean of each channel over all spatial axes, of shape (batch, channels).

    Example:
        >>> lf.global_avg_pool().predict((), torch.tensor([[[1.0, 5.0], [2.0, 3.0]]]))
        tensor([[3.0000, 2.5000]])
    """
    return bare(Layer, forward, backward)
