"""Embedding's gradient, whose rows are added up in place.

The formula copies its table of zeros before rows are added to it. Without the copy, forward and
backward take half the time for 50,000 rows of 512 features and 2048 indices, three quarters for
10,000 of 64 and 4096 indices, and the same time for a few rows, on one thread of a Zen 5.

While a step is traced, ATen's own operation is recorded, for which a compiled step has a kernel.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import is_plain
from lincoln_fn.fastpath.twin import Twin
from lincoln_fn.layers import embedding
from lincoln_fn.layers.embedding import Cache, Params


def backward(
    params: Params, cache: Cache, g: Float[Tensor, "*batch embedding_dim"]
) -> tuple[None, Params]:
    """Compute dW_v = sum of g_t over all t with x_t = v, and zero for v = padding_idx."""
    count, features = params.weight.shape
    x, padding_idx = cache.x.long(), cache.padding_idx
    wide = g.to(torch.promote_types(g.dtype, torch.float32))
    if is_plain(wide, x):
        rows = wide.reshape(-1, features)
        dweight = rows.new_zeros(count, features).index_add_(0, x.flatten(), rows)
        if padding_idx is not None:
            dweight[padding_idx] = 0
    else:
        padding = -1 if padding_idx is None else padding_idx
        dweight = torch.ops.aten.embedding_dense_backward(wide, x, count, padding, False)
    return None, Params(dweight.to(g.dtype))


TWINS: Final = (Twin(embedding, backward=backward, input_grad=embedding.input_grad),)
