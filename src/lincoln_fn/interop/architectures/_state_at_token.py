"""The state of a sequence at the token that ends it, which CLIP takes for the whole text."""

from __future__ import annotations

from functools import partial

import torch

from lincoln_fn.core import Arrays, Layer, Params, declare, record


@record
class Cache:
    """Where each sequence ends, and a stand-in for the sequences."""

    place: torch.Tensor
    x: torch.Tensor


def _forward(params: Params, x: Arrays, *, eos: int) -> tuple[Arrays, Cache]:
    """Take h at the first place with the token that ends a text."""
    h, ids = x
    # With 2, which the first configs had by mistake, the token is the one of the largest number.
    place = (ids if eos == 2 else (ids == eos).int()).argmax(-1)
    index = place[..., None, None].expand(*place.shape, 1, h.shape[-1])
    return h.gather(-2, index).squeeze(-2), Cache(index, h.new_zeros(()).expand(h.shape))


declare(_forward, kind="moving")


def _backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    """Put g at that place, and 0 elsewhere."""
    return (torch.zeros_like(cache.x).scatter(-2, cache.place, g.unsqueeze(-2)), None), ()


def state_at_token(eos: int) -> Layer:
    """Make a layer of (h, ids), whose y is h at the first place where ids is eos."""
    return Layer(f"state_at_token({eos})", partial(_forward, eos=eos), _backward)
