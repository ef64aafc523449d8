"""The rewrites of a traced graph, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch.fx import GraphModule

from lincoln_fn.compiler.passes import (
    lstm,
    pooled_convolution,
    pooling,
    products,
    scalars,
    torch_kernels,
    views,
)

# A donated state is put into the graph before, by donation.py: it looks for products.
PASSES: Final[tuple[Callable[[GraphModule], None], ...]] = (
    pooling.rewrite,
    # After pooling, whose functions it looks for.
    pooled_convolution.rewrite,
    # Before products, which its own products go on to.
    lstm.rewrite,
    products.rewrite,
    scalars.rewrite,
    # After pooling, which leaves some of torch's kernels in place.
    torch_kernels.rewrite,
    # Last, for the others change strides.
    views.rewrite,
)
