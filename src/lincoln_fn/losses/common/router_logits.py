"""The logits of one router or of several, as one table of tokens, for the losses on them."""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, LayerError, format_briefly, record, static

Logits: TypeAlias = Float[Tensor, "tokens experts"]


@record
class Tokens:
    """The logits z, and the part m of each token in the mean; the shapes that came in."""

    z: Logits
    m: Float[Tensor, " tokens"]
    shapes: tuple[tuple[int, ...], ...] = static()
    is_tuple: bool = static()

    def divided(self, dz: Logits) -> Arrays:
        """Give each router the gradient of its logits, in their shape."""
        sizes = [torch.Size(shape[:-1]).numel() for shape in self.shapes]
        parts = torch.split(dz, sizes)
        each = tuple(part.view(shape) for part, shape in zip(parts, self.shapes, strict=True))
        return each if self.is_tuple else each[0]


def read(name: str, prediction: Arrays, target: Tensor | None) -> Tokens:
    """Put the tokens of all routers into one table; without those where the target is False."""
    is_tuple = type(prediction) is tuple
    logits = prediction if is_tuple else (prediction,)
    for z in logits or (None,):
        is_logits = isinstance(z, Tensor) and z.is_floating_point() and z.ndim > 1
        if z is None or not is_logits or z.shape[-1] != logits[0].shape[-1]:
            expected = "router logits (..., experts), or a tuple of them"
            raise LayerError(name, f"expected {expected}, got {format_briefly(prediction)}")
        is_mask = isinstance(target, Tensor) and target.shape == z.shape[:-1]
        if target is not None and not is_mask:
            expected = f"a mask of the tokens, {tuple(z.shape[:-1])}, or None"
            raise LayerError(name, f"expected target {expected}, got {format_briefly(target)}")
    z = torch.cat([of_router.reshape(-1, of_router.shape[-1]) for of_router in logits])
    m = z.new_ones(len(z)) if target is None else target.reshape(-1).to(z.dtype).repeat(len(logits))
    if target is not None:  # 0 times nan is nan
        z = torch.where(m.unsqueeze(-1) != 0, z, 0)
    shapes = tuple(tuple(of_router.shape) for of_router in logits)
    # A sum in float16 overflows at 65504 tokens.
    n = m.sum(dtype=torch.promote_types(m.dtype, torch.float32)).clamp(min=1)
    return Tokens(z, m / n, shapes, is_tuple)
