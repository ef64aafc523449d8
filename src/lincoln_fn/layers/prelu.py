"""Parametric rectified linear unit: y = x for x > 0, else w x, with a trained slope w.

Derivation. All channels share one w, or each channel, on axis 1, has its own. The slope is 1 for
x > 0 and w for x < 0. At x = 0 there is no derivative with respect to x, and w is used, as in
torch. y depends on w where x < 0, and (dy)/(dw) = x there:

    dx = {(g, if x > 0), (w g, otherwise):}
    dw = sum g min(x, 0)    over all elements that share w

Cache: x.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Elements, Key, Layer, PositiveInt, bare, mirror, record
from lincoln_fn.layers.common.normalisation import widened


@record
class Params:
    """The slopes w on the negative side."""

    weight: Float[Tensor, " num_parameters"]


def init(key: Key, x: Elements, *, num_parameters: int, init: float) -> Params:
    """Make num_parameters slopes, all equal to init."""
    params = Params(torch.full((num_parameters,), init, dtype=x.dtype, device=key.bits.device))
    _check_channels(params, x)
    return params


def forward(params: Params, x: Elements) -> tuple[Elements, Elements]:
    """Compute y = x for x > 0, else w x."""
    core.check_like("prelu", "x", x, params.weight)
    if params.weight.ndim != 1:
        raise core.wrong_shape("prelu", "weight", params.weight, "(num_parameters,)")
    _check_channels(params, x)
    return torch.where(x > 0, x, along_axis_1(params.weight, x) * x), x


def backward(params: Params, x: Elements, g: Elements) -> tuple[Elements, Params]:
    """Compute dx = g where x > 0, else w g, and dw = the sum of g min(x, 0)."""
    dx = torch.where(x > 0, g, along_axis_1(params.weight, x) * g)
    sharing = [axis for axis in range(x.ndim) if axis != 1 or len(params.weight) == 1]
    dw = torch.sum(g * torch.clamp(x, max=0), sharing)
    return dx, Params(dw.reshape(-1))


def terms(params: Params, x: Tensor, g: Tensor) -> Params:
    """Return dw_n = sum of g min(x, 0) over the elements of example n that share w."""
    core.check_batched("prelu", g, 1)
    count = len(params.weight)
    size = x[0].numel() // count if len(x) else 0
    slopes = (widened(g) * x.clamp(max=0)).reshape(len(x), count, size)
    return mirror(params, weight=core.sum_axes(slopes, (2,)))


def along_axis_1(weight: Float[Tensor, " n"], x: Elements) -> Tensor:
    """Give the slopes as many axes as x has, with the slopes on axis 1."""
    return weight.reshape([-1 if axis == 1 else 1 for axis in range(x.ndim)])


def _check_channels(params: Params, x: Tensor) -> None:
    count = len(params.weight)
    if count != 1 and (x.ndim < 2 or x.shape[1] != count):
        raise core.wrong_shape(f"prelu({count})", "x", x, f"(batch, {count}, ...)")


_init = init  # by another name, because the constructor has an argument `init`


@core.constructor(kind="activation", terms=terms)
def prelu(num_parameters: PositiveInt = 1, init: float = 0.25) -> Layer:
    """Keep what is positive, and scale the rest by a trained slope: y = x for x > 0, else w x.

    x has any shape for one slope, else (batch, num_parameters, ...); y has the same. Source: He,
    Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015.

    Args:
        num_parameters: 1, or the number of channels, on axis 1, for one slope per channel.

    Example:
        >>> prelu().init(lf.Key(0), torch.zeros(5, 3)).weight
        tensor([0.2500])
    """
    return bare(Layer, forward, backward, _init)
