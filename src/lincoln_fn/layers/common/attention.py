"""Shared by the attention layers: the weights, their backward pass, and checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn.core import Sequence, check_input, check_like, format_briefly, unexpected

Mask: TypeAlias = Bool[Tensor, "*mask"] | Float[Tensor, "..."]
Inputs: TypeAlias = (
    tuple[Sequence, Sequence, Sequence] | tuple[Sequence, Sequence, Sequence, Mask | None]
)
Gradients: TypeAlias = (
    tuple[Sequence, Sequence, Sequence] | tuple[Sequence, Sequence, Sequence, Tensor | None]
)
Scores: TypeAlias = Float[Tensor, "*batch length key_length"]
Visible: TypeAlias = Bool[Tensor, "length key_length"] | None
# (dweights, weights) -> dscores; `softmax_backward`, or a faster function in its place.
SoftmaxBackward: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def visible_keys(
    scores: Scores, *, is_causal: bool, sliding_window: int | None = None,
    is_aligned_at_end: bool = False,
) -> Visible:  # fmt: skip
    """Find which keys each query may see, by their places alone; None if all see all of them.

    With a sliding_window, these are the keys less than so many places away. The last query has the
    place of the last key if is_aligned_at_end; else the first has that of the first.
    """
    if not is_causal and sliding_window is None:
        return None
    length, key_length = scores.shape[-2:]
    place = key_length - length if is_aligned_at_end else 0
    visible = torch.ones(length, key_length, dtype=torch.bool, device=scores.device)
    if is_causal:
        visible = visible.tril(place)
    if sliding_window is not None:
        visible = visible.triu(place + 1 - sliding_window).tril(place - 1 + sliding_window)
    return visible


def masked_softmax(scores: Scores, mask: Mask | None, visible: Visible) -> Scores:
    """Compute weights = softmax(scores + mask), along the keys; zeros where no key is allowed."""
    if mask is None and visible is None:
        return torch.softmax(scores, -1)
    allowed = visible
    if mask is not None:
        is_bool = mask.dtype is torch.bool
        seen = mask if is_bool else mask > -math.inf
        allowed = seen if visible is None else visible & seen
        scores = scores if is_bool else scores + mask
    assert allowed is not None
    weights = torch.softmax(scores.masked_fill(~allowed, -math.inf), -1)
    # Where no key is allowed, softmax of only -inf gives nan. Of no more queries than keys, each
    # sees at least one by its place.
    if mask is None and scores.shape[-2] <= scores.shape[-1]:
        return weights
    return weights.masked_fill(~allowed.any(-1, keepdim=True), 0)


def softmax_backward(dweights: Tensor, weights: Tensor) -> Tensor:
    """Compute dscores_j = weights_j (dweights_j - sum_n dweights_n weights_n), along the keys."""
    return weights * (dweights - (dweights * weights).sum(-1, keepdim=True))


def mask_grad(dscores: Tensor, mask: Mask | None) -> Tensor | None:
    """Compute dmask: dscores, summed over the axes that the mask was broadcast along, or None."""
    if mask is None or not mask.is_floating_point():
        return None
    return dscores.sum_to_size(mask.shape)


def check_sequences(layer: str, x: object) -> None:
    """Check that query, key and value have one dtype, one device and the same leading axes."""
    if type(x) is not tuple or len(x) not in (3, 4):
        wanted = "x to be (query, key, value) or (query, key, value, mask)"
        raise unexpected(layer, wanted, format_briefly(x))
    for name, part in zip(("query", "key", "value"), x, strict=False):
        check_input(layer, (), part)
        check_like(layer, name, part, x[0])
    shapes = [tuple(part.shape) for part in x[:3]]
    query, key, value = shapes
    one_batch = query[:-2] == key[:-2] == value[:-2]
    if min(map(len, shapes)) < 2 or not one_batch or key[-2] != value[-2]:
        wanted = "(..., length, features), key and value of one length, with equal leading axes"
        got = f"{query}, {key} and {value}"
        raise unexpected(layer, f"query, key and value of shapes {wanted}", got)


def check_mask(layer: str, mask: object, like: Tensor, shape: tuple[int, ...]) -> None:
    """Check that a mask is bool, or floating as the query is, and broadcasts to the scores."""
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype not in (torch.bool, like.dtype):
        raise unexpected(layer, f"a mask of bool or {like.dtype}", format_briefly(mask))
    if mask.device != like.device:
        raise unexpected(layer, f"the mask on {like.device}", mask.device)
    ends = shape[len(shape) - mask.ndim :]
    fits = all(given in (1, size) for given, size in zip(mask.shape, ends, strict=False))
    if mask.ndim > len(shape) or not fits:
        raise unexpected(layer, f"a mask that broadcasts to {shape}", mask.shape)
