"""Shared by the layers that make another layer's weight out of other params."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import Layer, LayerError, Params, describe, require, unchanged


def check_layer(name: str, layer: Layer) -> None:
    """Check that a layer is a single one without a state.

    Example:
        >>> check_layer("f", lf.dropout())
        Traceback (most recent call last):
        lincoln_fn.LayerError: f: expected a single layer without a state, got the Layer dropout()
    """
    is_plain = layer.composition is None and layer.advance is unchanged
    require(is_plain, name, "a single layer without a state", layer)


def weight_of(name: str, params: Params) -> Tensor:
    """Return the weight of a layer's params, of two axes or more.

    Example:
        >>> weight_of("weight_norm", lf.layers.dense.Params(torch.ones(2, 1), None))
        tensor([[1.],
                [1.]])
    """
    weight = getattr(params, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        problem = "expected a layer whose params have a weight of two axes or more"
        raise LayerError(name, f"{problem}, got {describe(params)}")
    return weight


def axis_of(name: str, weight: Tensor, dim: int) -> int:
    """Return the axis of a weight, counted from its begin.

    Example:
        >>> axis_of("weight_norm", torch.ones(2, 1), -1)
        1
    """
    if not -weight.ndim <= dim < weight.ndim:
        problem = f"expected dim to be an axis of the weight of shape {tuple(weight.shape)}"
        raise LayerError(name, f"{problem}, got {dim}")
    return dim % weight.ndim
