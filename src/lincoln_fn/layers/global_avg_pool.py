"""Global average pooling: y = the mean of each channel over all spatial axes.

Derivation. With N spatial positions, y_bc = (1 / N) sum_i x_bci, so dy_bc/dx_bci = 1 / N and

    dx_bci = g_bc / N,

the same at every position. Cache: stand-ins for x and y. Source: Lin, Chen and Yan, "Network In
Network" (2013), section 3.2.
"""

from __future__ import annotations

from math import prod

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers._stand_in import StandIns, stand_ins
from lincoln_fn.shapes import LayerError, check_cache, check_cotangent, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "batch channels *spatial"], *, keepdim: bool = False
) -> tuple[Float[Tensor, "batch channels *ones"], StandIns]:
    """Compute y_bc = (1 / N) sum_i x_bci.

    Args:
        params: ().
        x: of shape (batch, channels, *spatial), with any number of spatial axes above 0.
        keepdim: whether y keeps the spatial axes, with size 1.

    Returns:
        y of shape (batch, channels) or (batch, channels, 1, ...), and the cache.

    Raises:
        LayerError: if x is not such a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([[[1.0, 5.0], [2.0, 3.0]]]))[0]
        tensor([[3.0000, 2.5000]])
    """
    check_input("global_avg_pool", params, x)
    if x.ndim < 3 or 0 in x.shape[2:]:
        problem = f"expected x of shape (batch, channels, *spatial), got {tuple(x.shape)}"
        raise LayerError("global_avg_pool", problem)
    y = x.mean(tuple(range(2, x.ndim)), keepdim=keepdim)
    return y, stand_ins(x, y)


def backward(
    params: tuple[()], cache: StandIns, g: Float[Tensor, "batch channels *ones"]
) -> tuple[Float[Tensor, "batch channels *spatial"], tuple[()]]:
    """Compute dx_bci = g_bc / N.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, in which all positions of a channel share their memory; no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> _, cache = forward((), torch.zeros(1, 2, 2))
        >>> backward((), cache, torch.tensor([[10.0, 100.0]]))[0]
        tensor([[[ 5.,  5.],
                 [50., 50.]]])
    """
    check_cache("global_avg_pool", cache, StandIns)
    check_cotangent("global_avg_pool", g, cache.y)
    batch, channels, *spatial = cache.x.shape
    share = (g / prod(spatial)).reshape(batch, channels, *(1 for _ in spatial))
    return share.expand(cache.x.shape), ()
