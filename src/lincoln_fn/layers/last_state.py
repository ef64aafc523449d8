"""Last state: y is the last entry of a sequence, not counting the padding.

Derivation. Let t(n) be the last position where sequence n has an entry. Then

    y_n = x_(n t(n))
    dx_(nt) = g_n    for t = t(n), else 0

A sequence without entries has y = 0, and dx = 0.

Cache: t(n), which sequences have an entry, and the shape of x.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lincoln_fn.core import Features, Layer, Sequence, bare, constructor, record, stand_ins, static
from lincoln_fn.layers.common.sequences import Inputs, Mask, Mirrored, mirrored, sequence_and_mask


@record
class Cache:
    """The last positions, which sequences have an entry (None if all do), and the form of x."""

    place: Int64[Tensor, "*batch 1 1"]
    is_there: Bool[Tensor, "*batch 1"] | None
    x: Sequence
    y: Features
    has_mask_entry: bool = static()


def forward(params: tuple[()], x: Inputs) -> tuple[Features, Cache]:
    """Take y_n = x_(n t(n))."""
    sequence, mask = sequence_and_mask("last_state", x)
    place, is_there = _last(sequence, mask)
    y = sequence.gather(-2, _for_each_feature(place, sequence.shape)).squeeze(-2)
    if is_there is not None:
        y = torch.where(is_there, y, 0.0)
    like = stand_ins(sequence, y)
    return y, Cache(place, is_there, like.x, like.y, isinstance(x, tuple))


def backward(params: tuple[()], cache: Cache, g: Features) -> tuple[Mirrored, tuple[()]]:
    """Put g_n at t(n), and 0 elsewhere."""
    shape = cache.x.shape
    if cache.is_there is not None:
        g = torch.where(cache.is_there, g, 0.0)
    index = _for_each_feature(cache.place, shape)
    dx = torch.zeros(shape, dtype=g.dtype, device=g.device).scatter(-2, index, g.unsqueeze(-2))
    return mirrored(dx, cache.has_mask_entry), ()


def _last(sequence: Sequence, mask: Mask | None) -> tuple[Tensor, Tensor | None]:
    length = sequence.shape[-2]
    if mask is None:
        return torch.full((*sequence.shape[:-2], 1, 1), length - 1, device=sequence.device), None
    place = torch.where(mask, torch.arange(length, device=sequence.device), 0).amax(-1)
    return place[..., None, None], mask.any(-1, keepdim=True)


def _for_each_feature(place: Tensor, shape: tuple[int, ...]) -> Tensor:
    return place.expand(*shape[:-2], 1, shape[-1])


@constructor(kind="moving")
def last_state() -> Layer:
    """Take the last entry of a sequence, not counting the padding: one vector for each sequence.

    x is a sequence (..., length, features), such as a recurrent layer's outputs, or (sequence,
    mask). The mask (..., length) is True where the sequence has an entry; None means no padding. y
    has the shape (..., features), and is 0 for a sequence without entries.

    Example:
        >>> x = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])
        >>> last_state().predict((), x)
        tensor([[3.]])
    """
    return bare(Layer, forward, backward)
