"""Masked mean: y is the mean of a sequence's entries, without the padding.

Derivation. The mask m_(nt) is 1 where sequence n has an entry at t, else 0. With the number of
entries k_n, or 1 where there is none,

    k_n = max(sum_t m_(nt), 1)
    y_n = (1 / k_n) sum_t m_(nt) x_(nt)
    (dy_n)/(dx_(nt)) = m_(nt) / k_n
    dx_(nt) = g_n m_(nt) / k_n

A sequence without entries has y = 0. Numbers in the padding, even nan, do not affect y.

Cache: the mask, k, and the shapes of x and y.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import Features, Layer, Sequence, bare, constructor, record, stand_ins, static
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.layers.common.sequences import Inputs, Mask, Mirrored, mirrored, sequence_and_mask


@record
class Cache:
    """The mask, if there is one, how many entries each sequence has, and the form of x."""

    mask: Mask | None
    count: Tensor
    x: Sequence
    y: Features
    has_mask_entry: bool = static()


def forward(params: tuple[()], x: Inputs) -> tuple[Features, Cache]:
    """Compute y_n = (1 / k_n) sum_t m_nt x_nt."""
    sequence, mask = sequence_and_mask("masked_mean", x)
    kept = wide = widened(sequence)  # a sum may be beyond float16 where its mean is not
    count = wide.new_full((), sequence.shape[-2])
    if mask is not None:
        kept = torch.where(mask.unsqueeze(-1), wide, 0.0)
        count = mask.sum(-1, keepdim=True).clamp(min=1).to(wide.dtype)
    y = (kept.sum(-2) / count).to(sequence.dtype)
    like = stand_ins(sequence, y)
    return y, Cache(mask, count, like.x, like.y, isinstance(x, tuple))


def backward(params: tuple[()], cache: Cache, g: Features) -> tuple[Mirrored, tuple[()]]:
    """Compute dx_nt = g_n m_nt / k_n."""
    dx = (g / cache.count).to(g.dtype).unsqueeze(-2).expand(cache.x.shape)
    if cache.mask is not None:
        dx = torch.where(cache.mask.unsqueeze(-1), dx, 0.0)
    return mirrored(dx, cache.has_mask_entry), ()


@constructor(kind="average")
def masked_mean() -> Layer:
    """Average a sequence over its entries, without the padding: one vector for each sequence.

    x is a sequence (..., length, features), or (sequence, mask). The mask (..., length) is True
    where the sequence has an entry; None means no padding. y has the shape (..., features), and is
    0 for a sequence without entries.

    Example:
        >>> x = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])
        >>> masked_mean().predict((), x)
        tensor([[2.]])
    """
    return bare(Layer, forward, backward)
