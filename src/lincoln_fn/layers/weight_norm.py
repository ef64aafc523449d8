"""Weight normalisation: a layer's weight is a trained length times a trained direction.

Along one axis, each slice of the weight has a length of its own. With the slice k of the direction
v, and sums over all other axes,

    n_k = sqrt(sum v_k^2)
    hat v_k = v_k / n_k
    W_k = m_k hat v_k

Derivation. The layer's own backward gives dx and dW. v enters W through the direction alone, so
what dW has along v is taken out of it:

    dm_k = sum dW_k hat v_k
    (d hat v)/(dv) = (delta - hat v hat v^T) / n
    dv_k = m_k / n_k (dW_k - hat v_k dm_k)

Cache: the layer's own. Source: Salimans and Kingma, "Weight Normalization", 2016, equation 2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, bare, evolve, record, unexpected
from lincoln_fn.layers import dense

NAME = "weight_norm"


@record
class WeightNormParams:
    """The lengths, and the layer's own params with v in the place of their weight."""

    magnitude: Float[Tensor, "*ones_but_one"]
    direction: Params


def init(key: Key, x: Arrays, *, layer: Layer, dim: int | None) -> WeightNormParams:
    """Draw the layer's params: the weight is v, and its lengths are m."""
    drawn = layer.init(key, x)
    return WeightNormParams(_length(weight_of(NAME, drawn), drawn, dim), drawn)


def forward(
    params: WeightNormParams, x: Arrays, *, layer: Layer, dim: int | None
) -> tuple[Arrays, Cache]:
    """Compute the layer's y with W = m hat v."""
    return layer.forward(_made(params, dim), x)


def backward(
    params: WeightNormParams, cache: Cache, g: Arrays, *, layer: Layer, dim: int | None
) -> tuple[Arrays, WeightNormParams]:
    """Compute dm = sum of dW hat v, and dv = m / n (dW - hat v dm)."""
    dx, dmade = layer.backward(_made(params, dim), cache, g)
    v, dw = params.direction.weight, dmade.weight
    n = _length(v, params.direction, dim)
    v_hat = v / n
    dm = (dw * v_hat).sum(_others(v, params.direction, dim), keepdim=True)
    dv = params.magnitude / n * (dw - v_hat * dm)
    return dx, WeightNormParams(dm, evolve(dmade, weight=dv))


def input_grad(
    params: WeightNormParams, cache: Cache, g: Arrays, *, layer: Layer, dim: int | None
) -> Arrays:
    """Compute the layer's dx with W = m hat v."""
    return layer.input_grad(_made(params, dim), cache, g)


def _made(params: WeightNormParams, dim: int | None) -> Params:
    v = weight_of(NAME, params.direction)
    length = _length(v, params.direction, dim)
    return evolve(params.direction, weight=params.magnitude * (v / length))


def _length(v: Tensor, of: Params, dim: int | None) -> Tensor:
    n: Tensor = torch.linalg.vector_norm(v, dim=_others(v, of, dim), keepdim=True)
    return n


def _others(v: Tensor, of: Params, dim: int | None) -> tuple[int, ...]:
    """Return the axes but the one whose slices have lengths; by default, torch's axis 0."""
    default = 1 if isinstance(of, dense.Params) else 0  # our matrix is torch's transposed
    kept = axis_of(NAME, v, dim, default)
    return tuple(axis for axis in range(v.ndim) if axis != kept)


@core.constructor(kind="other")
def weight_norm(layer: Layer, dim: int | None = None) -> Layer:
    """Train a layer's weight as lengths and directions: W = m v / |v|.

    A slice of zeros has no direction: W is nan, as in torch. In a `state_dict`, the tensors have
    the names and shapes of these params, `layers.weight_norm.WeightNormParams`, not those of
    torch's parametrization. The gradients of single examples are computed one after the other.

    Args:
        layer: a single layer whose params have a weight, such as `dense` or `conv2d`.
        dim: the axis of the weight along which each slice has a length. The default is torch's
            axis 0, which is the last one of a dense layer's weight here: one length for each
            feature or channel of y, and of x for transposed convolutions.

    Example:
        >>> direction = dense.Params(torch.tensor([[3.0], [4.0]]), None)
        >>> params = WeightNormParams(torch.tensor([[10.0]]), direction)
        >>> weight_norm(lf.dense(1, bias=False)).predict(params, torch.eye(2))
        tensor([[6.],
                [8.]])
    """
    check_layer(NAME, layer)
    return bare(Layer, forward, backward, init, input_grad=input_grad)


def check_layer(name: str, layer: Layer) -> None:
    """Check that a layer, whose weight another makes, is a single one without a state."""
    is_plain = layer.composition is None and layer.advance is core.unchanged
    core.require(is_plain, name, "a single layer without a state", layer)


def weight_of(name: str, params: Params) -> Tensor:
    """Return the weight of such a layer's params, of two axes or more."""
    weight = getattr(params, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        expected = "a layer whose params have a weight of two axes or more"
        raise unexpected(name, expected, core.describe(params))
    return weight


def axis_of(name: str, weight: Tensor, dim: int | None, default: int) -> int:
    """Return an axis of the weight, counted from its begin."""
    dim = default if dim is None else dim
    if not -weight.ndim <= dim < weight.ndim:
        expected = f"dim to be an axis of the weight of shape {tuple(weight.shape)}"
        raise unexpected(name, expected, dim)
    return dim % weight.ndim
