"""Layers that scale or shift element by element: prelu and learned positions.

prelu                   dw = sum g min(x, 0)    over an example's elements that share w
positional_embedding    dW_t = sum g_t    over an example's sequences
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.layers import positional_embedding, prelu
from lincoln_fn.layers._normalisation import widened
from lincoln_fn.per_example.checks import no_batch
from lincoln_fn.per_example.terms import Explicit
from lincoln_fn.record import evolve


def prelu_terms(params: prelu.Params, x: Tensor, g: Tensor) -> prelu.Params:
    """Return the term of the slopes."""
    if x.ndim == 0:
        raise no_batch("prelu", g)
    products, count = widened(g) * x.clamp(max=0), len(params.weight)
    size = x[0].numel() // count if len(x) else 0
    slopes = products.reshape(len(x), count, size)
    return evolve(params, weight=Explicit(slopes.sum(2)))


def position_terms(
    params: positional_embedding.Params, cache: Tensor, g: Tensor
) -> positional_embedding.Params:
    """Return the term of the positions, zeros past the sequences' length."""
    if g.ndim < 3:
        raise no_batch("positional_embedding", g)
    rows = widened(g).flatten(1, -3).sum(1) if g.ndim > 3 else g
    missing = len(params.weight) - g.shape[-2]
    return evolve(params, weight=Explicit(torch.nn.functional.pad(rows, (0, 0, 0, missing))))
