"""Local response norm: y = x / (k + alpha / size * sum of x^2 over near channels)^beta.

Channel c's window W(c) is the `size` channels from c - size // 2 to c + (size - 1) // 2, those
beyond the ends counting as 0 (Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep
Convolutional Neural Networks", 2012, section 3.3; the division by size is torch's).

Derivation. With D_c = k + alpha / size sum over j in W(c) of x_j^2, y_c = x_c D_c^-beta, and

    dD_c/dx_i = 2 alpha / size x_i where i is in W(c), else 0
    dy_c/dx_i = d_ci D_c^-beta - beta x_c D_c^(-beta - 1) dD_c/dx_i

with d_ci = 1 where c = i, else 0. Summed over c, weighted by g_c,

    dx_i = g_i D_i^-beta - 2 alpha beta / size x_i (sum of g_c x_c D_c^-beta / D_c)

over the c with i in W(c), which run from i - (size - 1) // 2 to i + size // 2: the same window,
turned round. Cache: x, D and D^-beta, called scale.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from lincoln_fn.layers._normalisation import check_channels
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input, check_params


@record
class Cache:
    """The input, the denominator D, scale = D^-beta, and the hyperparameters."""

    x: Float[Tensor, "batch channels *spatial"]
    denominator: Float[Tensor, "batch channels *spatial"]
    scale: Float[Tensor, "batch channels *spatial"]
    size: int = static()
    alpha: float = static()
    beta: float = static()


def forward(
    params: tuple[()],
    x: Float[Tensor, "batch channels *spatial"],
    *,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> tuple[Float[Tensor, "batch channels *spatial"], Cache]:
    """Compute y = x / (k + alpha / size * sum of x^2 over near channels)^beta.

    Args:
        params: ().
        x: of shape (N, C, ...), any number of further axes.
        size: how many channels make a window.
        alpha: the weight of the windows' mean squares.
        beta: the exponent.
        k: added to each.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor of shape (N, C, ...), or params are another
            layer's.

    Example:
        >>> forward((), torch.tensor([[1.0, 2.0]]), size=1, alpha=1.0, beta=1.0)[0]
        tensor([[0.5000, 0.4000]])
    """
    check_input("local_response_norm", params, x)
    check_channels("local_response_norm", x, None)
    sums = _window_sums(x.square(), size // 2, (size - 1) // 2)
    denominator = sums.mul_(alpha / size).add_(k)
    scale = denominator.pow(-beta)
    return x * scale, Cache(x, denominator, scale, size, alpha, beta)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "batch channels *spatial"]
) -> tuple[Float[Tensor, "batch channels *spatial"], tuple[()]]:
    """Compute dx = g scale - 2 alpha beta / size x (windows' sums of g x scale / D).

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or params or cache are another layer's.

    Example:
        >>> _, cache = forward((), torch.tensor([[1.0, 2.0]]), size=1, alpha=1.0, beta=1.0)
        >>> backward((), cache, torch.ones(1, 2))[0]
        tensor([[ 0.0000, -0.1200]])
    """
    check_params("local_response_norm", params, None)
    check_cache("local_response_norm", cache, Cache)
    check_cotangent("local_response_norm", g, cache.x)
    size = cache.size
    direct = g * cache.scale
    terms = direct * cache.x / cache.denominator
    through_denominator = cache.x * _window_sums(terms, (size - 1) // 2, size // 2)
    return direct.sub_(through_denominator, alpha=2 * cache.alpha * cache.beta / size), ()


def _window_sums(values: Tensor, before: int, after: int) -> Tensor:
    """Sum, for each channel, over those from `before` channels earlier to `after` later."""
    padded = pad(values, (0, 0) * (values.ndim - 2) + (before, after))
    return padded.unfold(1, before + 1 + after, 1).sum(-1)
