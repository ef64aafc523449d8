"""Reading what policy losses are given: numbers of sequences, and masks of tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn.core import LayerError
from lincoln_fn.losses.common.targets import any_true


def of_tokens(name: str, what: str, given: Tensor, log_probs: Float[Tensor, "*s"]) -> Tensor:
    """Read one number for each token, or for each sequence, whose tokens share it."""
    shape = log_probs.shape
    if given.shape != shape[: given.ndim] or (given.ndim == 0) != (len(shape) == 0):
        shapes = f"log_probs' shape {tuple(shape)} or its first axes, got {tuple(given.shape)}"
        raise LayerError(name, f"expected {what} of {shapes}")
    return given.to(log_probs.dtype).reshape(given.shape + (1,) * (len(shape) - given.ndim))


def where_counted(mask: Bool[Tensor, "*s"] | None, values: Float[Tensor, "*s"]) -> Tensor:
    """Return the values of the tokens that count, and 0 for the others."""
    return values if mask is None else torch.where(mask, values, 0)


def count_masked(cache: tuple[Tensor | None, ...], *, name: str) -> Tensor | None:
    """Count the tokens of the mask, which comes last in a cache; None for all of them."""
    if (mask := cache[-1]) is None:
        return None
    n = mask.sum(dtype=torch.float32)
    if not any_true(n):
        raise LayerError(name, "expected a mask with a token to average over, got only False")
    return n
