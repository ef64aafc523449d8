"""Local response norm: y = x / (k + alpha/n sum_j x_j^2)^beta, the sum over n near channels.

The window W(c) of channel c is the n channels from c - floor(n / 2) to c + floor((n - 1) / 2);
channels beyond the ends count as 0 (Krizhevsky, Sutskever and Hinton, "ImageNet Classification with
Deep Convolutional Neural Networks", 2012, section 3.3; the division by size is torch's):

    D_c = k + alpha/n sum_(j in W(c)) x_j^2    with n the `size`
    y_c = x_c D_c^(-beta)

Derivation. Each x_i affects y_c directly, where c = i, and through D_c, where i is in W(c).

    delta_(ci) = {(1, if c = i), (0, otherwise):}
    (dD_c) / (dx_i) = {(2 alpha/n x_i, if i in W(c)), (0, otherwise):}
    (dy_c) / (dx_i) = delta_(ci) D_c^(-beta) - beta x_c D_c^(-beta - 1) (dD_c) / (dx_i)

Summed over c, weighted by g_c,

    dx_i = g_i D_i^(-beta) - 2 alpha/n beta x_i sum_(c: i in W(c)) g_c D_c^(-beta) x_c / D_c

The c with i in W(c) go from i - floor((n - 1) / 2) to i + floor(n / 2): the window, mirrored.

Half precision is computed in float32, because its squares overflow.

Cache: x; D and D^(-beta), called scale.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

from lincoln_fn.core import Channels, Layer, PositiveInt, bare, constructor, record, static
from lincoln_fn.layers.common.inputs import check_channels
from lincoln_fn.layers.common.normalisation import widened


@record
class Cache:
    x: Channels
    denominator: Channels
    scale: Channels
    size: int = static()
    alpha: float = static()
    beta: float = static()


def forward(
    params: tuple[()], x: Channels, *, size: int, alpha: float, beta: float, k: float
) -> tuple[Channels, Cache]:
    """Compute y = x D^-beta with D = k + alpha / size (windows' sums of x^2)."""
    check_channels("local_response_norm", params, x, "N, C, ...")
    wide = widened(x)
    denominator = k + alpha / size * _window_sums(wide.square(), size // 2, (size - 1) // 2)
    scale = denominator.pow(-beta)
    return (wide * scale).to(x.dtype), Cache(x, denominator, scale, size, alpha, beta)


def backward(params: tuple[()], cache: Cache, g: Channels) -> tuple[Channels, tuple[()]]:
    """Compute dx = g scale - 2 alpha / size beta x (windows' sums of g scale x / D)."""
    size, alpha, beta = cache.size, cache.alpha, cache.beta
    x, direct = widened(cache.x), widened(g) * cache.scale
    sums = _window_sums(direct * x / cache.denominator, (size - 1) // 2, size // 2)
    dx = direct - 2 * alpha / size * beta * x * sums
    return dx.to(g.dtype), ()


def _window_sums(values: Tensor, before: int, after: int) -> Tensor:
    """Sum, for each channel, over those from `before` channels earlier to `after` later."""
    padded = pad(values, (0, 0) * (values.ndim - 2) + (before, after))
    return padded.unfold(1, before + 1 + after, 1).sum(-1)


@constructor(kind="norm")
def local_response_norm(
    size: PositiveInt, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Layer:
    """Normalise by nearby channels: y = x / (k + alpha mean(x^2 of nearby channels))^beta.

    x is of shape (N, C) or (N, C, ...) with any further axes; y is of x's shape.

    Args:
        size: the number of channels in a window, from size // 2 before to (size - 1) // 2 after.

    Example:
        >>> local_response_norm(1, alpha=1.0, beta=1.0).predict((), torch.tensor([[1.0, 2.0]]))
        tensor([[0.5000, 0.4000]])
    """
    return bare(Layer, forward, backward)
