"""The scores of a tied embedding: y = h E^T, a score for each of its rows.

Derivation.

    y_j = sum_i h_i E_(ji)
    dh = g E
    dE = g^T h    summed over all rows

Cache: h.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine.frozen import thaw
from lincoln_fn.core import Layer, LayerError, Outer, Params, bare, check_cotangent, declare, tree

Features: TypeAlias = Float[Tensor, "*batch n_features"]
Logits: TypeAlias = Float[Tensor, "*batch n_embeddings"]


def forward(params: Params, h: Features) -> tuple[Logits, Features]:
    """Compute y = h E^T."""
    y: Tensor = h @ matrix("scores", params).mT
    return y, h


def backward(params: Params, h: Features, g: Logits) -> tuple[Features, Params]:
    """Compute dh = g E and dE = g^T h."""
    return input_grad(params, h, g), grads(params, h, g)


def input_grad(params: Params, h: Features, g: Logits) -> Features:
    """Compute dh = g E."""
    weight = matrix("scores", params)
    check_cotangent("scores", g, h, (*h.shape[:-1], len(weight)))
    dh: Tensor = g @ weight
    return dh


def grads(params: Params, h: Features, g: Logits) -> Params:
    """Compute dE = g^T h, and zeros for whatever else the embedding has."""
    weight = matrix("scores", params)
    check_cotangent("scores", g, h, (*h.shape[:-1], len(weight)))
    dweight = g.reshape(-1, g.shape[-1]).mT @ h.reshape(-1, h.shape[-1])

    def gradient(leaf: Tensor) -> Tensor:
        return dweight if leaf is weight else torch.zeros_like(leaf)

    return tree.map(gradient, params)


def terms(params: Params, h: Features, g: Logits) -> Params:
    """Return dE_n = sum_t g_nt^T h_nt, and zeros for whatever else the embedding has."""
    weight = matrix("scores", params)
    core.check_batched("scores", g)
    return tree.map(lambda p: Outer(g, h) if p is weight else torch.zeros_like(p), params)


declare(forward, grads, kind="scores", terms=terms)
declare(input_grad, reads=())


def matrix(label: str, params: Params) -> Float[Tensor, "n_embeddings n_features"]:
    """Return E, also a frozen one, or raise a `LayerError` if the params have none."""
    weight = getattr(thaw(params), "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        expected = "expected params with a weight of shape (n_embeddings, n_features)"
        raise LayerError(label, f"{expected}, got {core.describe(params)}")
    return weight


@core.constructor
def scores() -> Layer:
    """Make the layer, whose params are the embedding's."""
    return bare(Layer, forward, backward, input_grad=input_grad, grads=grads)
