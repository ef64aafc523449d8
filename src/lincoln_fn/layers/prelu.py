"""Parametric rectified linear unit: y = max(x, 0) + w min(x, 0), with a trained slope w.

Derivation. There is one w for all channels or one for each, on axis 1. For x > 0, y = x; for x < 0,
y = w x. At x = 0 there is no derivative with respect to x, and w is taken, as torch does:

    dx = g where x > 0, else w g,
    dw = the sum of g min(x, 0) over all elements that share w.

Cache: x (He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.keys import Key
from lincoln_fn.record import record
from lincoln_fn.shapes import LayerError, check_cotangent, check_input, check_like, check_params


@record
class Params:
    """The slopes w on the negative side."""

    weight: Float[Tensor, " num_parameters"]


def init(key: Key, x: Float[Tensor, "*s"], *, num_parameters: int, init: float) -> Params:
    """Make parameters for inputs like x.

    Args:
        key: ignored, for nothing is drawn.
        x: an example input, of which only shape, dtype and device count.
        num_parameters: 1, or the number of channels of x.
        init: the initial slope.

    Returns:
        The parameters, in x's dtype and on its device, or on the CPU for a `meta` tensor.

    Raises:
        LayerError: if x is not a floating tensor or has another number of channels.
    """
    check_input("prelu", (), x)
    device = key.near(x).bits.device
    params = Params(torch.full((num_parameters,), init, dtype=x.dtype, device=device))
    _check_channels(params, x)
    return params


def forward(
    params: Params, x: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y = max(x, 0) + w min(x, 0).

    Args:
        params: the slopes.
        x: of any shape for one slope, else of shape (batch, num_parameters, ...).

    Returns:
        y of x's shape, and the cache x.

    Raises:
        LayerError: if x is not a floating tensor with the weight's dtype, device and channels, or
            params are another layer's.

    Example:
        >>> forward(Params(torch.tensor([0.5])), torch.tensor([-1.0, 2.0]))[0]
        tensor([-0.5000,  2.0000])
    """
    check_input("prelu", params, x, Params)
    check_like("prelu", "x", x, params.weight)
    _check_channels(params, x)
    return torch.prelu(x, params.weight), x


def backward(
    params: Params, cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Params]:
    """Compute dx = g where x > 0, else w g, and dw = sum of g min(x, 0).

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and dparams.

    Raises:
        LayerError: if g does not mirror y, or params or the cache are another layer's.

    Example:
        >>> params = Params(torch.tensor([0.5]))
        >>> dx, dparams = backward(params, torch.tensor([-3.0, 2.0]), torch.ones(2))
        >>> dx, dparams.weight
        (tensor([0.5000, 1.0000]), tensor([-3.]))
    """
    check_params("prelu", params, Params)
    check_cotangent("prelu", g, cache)
    # One axis for each of x's, and the slopes along axis 1.
    shape = [-1 if axis == 1 else 1 for axis in range(cache.ndim)]
    weight = params.weight.view(shape)
    dx, dslope = torch.ops.aten._prelu_kernel_backward(g, cache, weight)
    return dx, Params(dslope.sum_to_size(weight.shape).view(-1))


def _check_channels(params: Params, x: Tensor) -> None:
    count = len(params.weight)
    if count != 1 and (x.ndim < 2 or x.shape[1] != count):
        raise LayerError(
            f"prelu({count})", f"expected x of shape (batch, {count}, ...), got {tuple(x.shape)}"
        )
