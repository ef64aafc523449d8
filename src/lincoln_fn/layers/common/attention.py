"""Shared by the attention layers: the weights, their backward pass, and checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn.errors.descriptions import format_briefly
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.shapes import check_input, check_like

Sequence: TypeAlias = Float[Tensor, "*batch length features"]
Mask: TypeAlias = Bool[Tensor, "..."] | Float[Tensor, "..."]
# (dweights, weights) -> dscores; `softmax_backward`, or a faster function in its place.
SoftmaxBackward: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def weights_of(
    query: Float[Tensor, "*batch length features"],
    key: Float[Tensor, "*batch key_length features"],
    mask: Mask | None,
    is_causal: bool,
) -> Float[Tensor, "*batch length key_length"]:
    """Compute weights = softmax(query key^T + mask), along the keys.

    Args:
        query: the queries, times the factor of the scores.
        key: the keys.
        mask: True where attention is allowed, or numbers that are added; None for no mask.
        is_causal: whether query i attends to keys 0 to i only.

    Returns:
        Rows that sum to 1; rows of zeros where no key is allowed.
    """
    scores = query @ key.mT
    if mask is None and not is_causal:
        return torch.softmax(scores, -1)
    allowed = _allowed(scores, mask, is_causal)
    if mask is not None and mask.is_floating_point():
        scores = scores + mask
    weights = torch.softmax(scores.masked_fill(~allowed, -math.inf), -1)
    if mask is None:
        return weights
    # Where no key is allowed, softmax of only -inf gives nan.
    return weights.masked_fill(~allowed.any(-1, keepdim=True), 0)


def softmax_backward(dweights: Tensor, weights: Tensor) -> Tensor:
    """Compute dscores_j = weights_j (dweights_j - sum_n dweights_n weights_n), along the keys.

    Args:
        dweights: dL/dweights.
        weights: what `weights_of` returned.

    Returns:
        dscores; 0 where the weight is 0, for instance where a mask forbids attention.
    """
    return weights * (dweights - (dweights * weights).sum(-1, keepdim=True))


def mask_grad(dscores: Tensor, mask: Mask | None) -> Tensor | None:
    """Compute dmask: dscores, summed over the axes along which the mask was broadcast.

    Args:
        dscores: dL/dscores.
        mask: the mask, which was added to the scores.

    Returns:
        dmask; None for a mask of bools, or no mask.
    """
    if mask is None or not mask.is_floating_point():
        return None
    return dscores.sum_to_size(mask.shape)


def check_sequences(layer: str, params: object, x: object, expected: type | None) -> None:
    """Check that query, key and value have one dtype, one device and the same leading axes.

    Args:
        layer: the layer's name.
        params: the parameters given.
        x: the three of them, and further entries.
        expected: the record class of the layer's parameters; None for a layer without any.

    Raises:
        LayerError: if they do not.
    """
    if type(x) is not tuple or len(x) not in (3, 4):
        forms = "(query, key, value) or (query, key, value, mask)"
        raise LayerError(layer, f"expected x to be {forms}, got {format_briefly(x)}")
    for name, part in zip(("query", "key", "value"), x, strict=False):
        check_input(layer, params, part, expected)
        check_like(layer, name, part, x[0])
    shapes = [tuple(part.shape) for part in x[:3]]
    query, key, value = shapes
    if (
        min(map(len, shapes)) < 2
        or not query[:-2] == key[:-2] == value[:-2]
        or key[-2] != value[-2]
    ):
        wanted = "(..., length, features), key and value of one length, with equal leading axes"
        given = f"{query}, {key} and {value}"
        raise LayerError(layer, f"expected query, key and value of shapes {wanted}, got {given}")


def check_mask(layer: str, mask: object, like: Tensor, shape: tuple[int, ...]) -> None:
    """Check that a mask is bool, or floating as the query is, and broadcasts to the scores.

    Args:
        layer: the layer's name.
        mask: the mask given, or None.
        like: the query.
        shape: that of the scores.

    Raises:
        LayerError: if it is not.
    """
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype not in (torch.bool, like.dtype):
        raise LayerError(
            layer, f"expected a mask of bool or {like.dtype}, got {format_briefly(mask)}"
        )
    if mask.device != like.device:
        raise LayerError(layer, f"expected the mask on {like.device}, got {mask.device}")
    ends = shape[len(shape) - mask.ndim :]
    fits = all(given in (1, size) for given, size in zip(mask.shape, ends, strict=False))
    if mask.ndim > len(shape) or not fits:
        given = tuple(mask.shape)
        raise LayerError(layer, f"expected a mask that broadcasts to {shape}, got {given}")


def _allowed(scores: Tensor, mask: Mask | None, is_causal: bool) -> Bool[Tensor, ...]:
    if mask is not None:
        seen = mask if mask.dtype is torch.bool else mask > -math.inf
        if not is_causal:
            return seen
    size = scores.shape[-2:]
    past = torch.ones(size, dtype=torch.bool, device=scores.device).tril()
    return past if mask is None else past & seen
