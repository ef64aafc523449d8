"""Shared by the layers that make another layer's weight out of other params."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import Layer, LayerError, Params, describe, require, unchanged


def check_layer(name: str, layer: Layer) -> None:
    """Check that a layer is a single one without a state."""
    is_plain = layer.composition is None and layer.advance is unchanged
    require(is_plain, name, "a single layer without a state", layer)


def weight_of(name: str, params: Params) -> Tensor:
    """Return the weight of a layer's params, of two axes or more."""
    weight = getattr(params, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        problem = "expected a layer whose params have a weight of two axes or more"
        raise LayerError(name, f"{problem}, got {describe(params)}")
    return weight


def axis_of(name: str, weight: Tensor, dim: int) -> int:
    """Return the axis of a weight, counted from its begin."""
    if not -weight.ndim <= dim < weight.ndim:
        problem = f"expected dim to be an axis of the weight of shape {tuple(weight.shape)}"
        raise LayerError(name, f"{problem}, got {dim}")
    return dim % weight.ndim
