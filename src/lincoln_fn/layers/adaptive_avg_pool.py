"""Adaptive average pooling over one, two or three spatial axes, to an output of a given size.

Derivation. Along an axis of L elements, with n windows, window o goes from floor(o L / n) up to,
but not including, ceil((o + 1) L / n). Neighbouring windows share an element where n does not
divide L. With W_o the positions in window o and n_o their number,

    y_o = (1 / n_o) sum_(i in W_o) x_i
    dx_i = sum_(o: i in W_o) g_o / n_o    as in average pooling

Cache: the shape of x, and the output's size.
"""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.arguments import checked
from lincoln_fn.declaration import declare
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.layers._pool import (
    OutputSize,
    adapted_sizes,
    check_spatial,
    output_sizes,
    stand_in,
)
from lincoln_fn.layers._pool_positions import (
    adaptive_positions,
    added_up,
    flat_positions,
    picked,
    sizes_in,
    summed_in,
)
from lincoln_fn.layers._spatial import Sizes
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent


@record
class Cache:
    """The input's shape, and the sizes of the output's spatial axes."""

    x: Float[Tensor, "*batch_and_spatial"]
    output_size: Sizes = static()


def forward(
    params: tuple[()],
    x: Float[Tensor, "*batch_and_spatial"],
    *,
    output_size: tuple[int | None, ...],
) -> tuple[Float[Tensor, "*batch_and_pooled"], Cache]:
    """Compute y_o = (1 / n_o) sum of the x_i in window o."""
    n = len(output_size)
    check_spatial(f"adaptive_avg_pool{n}d", params, x, n)
    sizes = adapted_sizes(output_size, x)
    positions = flat_positions(adaptive_positions(sizes, x), x)
    y = picked(x, positions, n, 0.0).sum(-1, dtype=summed_in(x)) / sizes_in(x, positions, n)
    return y.to(x.dtype), Cache(stand_in(x), sizes)


declare(forward, kind="average")


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch_and_pooled"]
) -> tuple[Float[Tensor, "*batch_and_spatial"], tuple[()]]:
    """Compute dx_i = sum of g_o / n_o over all windows o that i is in."""
    check_cache("adaptive_avg_pool", cache, Cache)
    x, n = cache.x, len(cache.output_size)
    check_cotangent(f"adaptive_avg_pool{n}d", g, x, (*x.shape[:-n], *cache.output_size))
    positions = flat_positions(adaptive_positions(cache.output_size, x), x)
    share = (g / sizes_in(x, positions, n)).unsqueeze(-1).expand(*g.shape, positions.shape[-1])
    return added_up(share, positions, x, n), ()


@checked
def adaptive_avg_pool1d(output_size: OutputSize) -> Layer:
    """Make an adaptive average pooling of x of shape (channels, length), or a batch.

    Its arguments and errors are those of `adaptive_avg_pool2d`.

    Returns:
        The layer, without parameters.

    Example:
        >>> lf.adaptive_avg_pool1d(2).predict((), torch.tensor([[1.0, 5.0, 3.0]]))
        tensor([[3., 4.]])
    """
    return _layer(1, output_size)


@checked
def adaptive_avg_pool2d(output_size: OutputSize) -> Layer:
    """Make an adaptive average pooling of x of shape (channels, height, width), or a batch.

    y is the mean of each window, and output_size gives the number of windows.

    Args:
        output_size: the size of y, one number for all axes or one for each; None keeps that of x.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if a number is below 1, or there are too many or too few.
        LayerError: from its functions, if x is not a floating tensor of such a shape.

    Example:
        >>> lf.adaptive_avg_pool2d((4, None))
        adaptive_avg_pool2d((4, None))
    """
    return _layer(2, output_size)


@checked
def adaptive_avg_pool3d(output_size: OutputSize) -> Layer:
    """Make an adaptive average pooling of x of shape (channels, depth, height, width), or a batch.

    Its arguments and errors are those of `adaptive_avg_pool2d`.

    Returns:
        The layer, without parameters.

    Example:
        >>> lf.adaptive_avg_pool3d((2, 4, 4))
        adaptive_avg_pool3d((2, 4, 4))
    """
    return _layer(3, output_size)


def _layer(n: int, output_size: OutputSize) -> Layer:
    layer = f"adaptive_avg_pool{n}d"
    sizes = output_sizes(layer, output_size, n)
    return Layer(call_repr(layer, output_size), partial(forward, output_size=sizes), backward)
