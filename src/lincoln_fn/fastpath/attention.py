"""Attention in the operations by which a compiled step finds it in its graph.

Heads are copied, so that all products read the same contiguous matrices, and softmax's backward
pass is ATen's `_softmax_backward_data`. A compiled step puts loops in their place: without them a
step of gpt-nano took 1.13 of the time. In an eager step both take as long as the formulas.

One product for query, key and value gained less than a fiftieth of an eager step of gpt-pico or
gpt-nano, and lost as much of a compiled one of gpt-pico. So attention is not fused otherwise.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.fastpath.twin import Twin
from lincoln_fn.layers import _heads, scaled_dot_product_attention
from lincoln_fn.layers._attention import Sequence


def split_heads(x: Sequence, num_heads: int) -> _heads.Heads:
    """Cut into heads, and copy them."""
    return _heads.split_heads(x, num_heads).contiguous()


def softmax_backward(dweights: Tensor, weights: Tensor) -> Tensor:
    """Compute dscores along the keys."""
    dscores: Tensor = torch.ops.aten._softmax_backward_data(dweights, weights, -1, weights.dtype)
    return dscores


TWINS: Final = (
    Twin(
        _heads,
        forward=partial(_heads.forward, split=split_heads),
        backward=partial(_heads.backward, split=split_heads, softmax_backward=softmax_backward),
    ),
    Twin(
        scaled_dot_product_attention,
        backward=partial(scaled_dot_product_attention.backward, softmax_backward=softmax_backward),
    ),
)
