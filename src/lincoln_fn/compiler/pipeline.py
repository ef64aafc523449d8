"""The rewrites of a traced graph, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch.fx import GraphModule

from lincoln_fn.compiler.passes import (
    linear_scan,
    lstm,
    pooled_convolution,
    pooling,
    products,
    scalars,
    torch_kernels,
    views,
)

# Before these, donation.py puts a donated state into the graph: it looks for products.
PASSES: Final[tuple[Callable[[GraphModule], None], ...]] = (
    pooling.rewrite,
    # After pooling: it looks for pooling's functions.
    pooled_convolution.rewrite,
    # Before products, which replaces its products, too.
    lstm.rewrite,
    linear_scan.rewrite,
    products.rewrite,
    scalars.rewrite,
    # After pooling, which replaces some of these operations itself.
    torch_kernels.rewrite,
    # Last, because the others change strides.
    views.rewrite,
)
