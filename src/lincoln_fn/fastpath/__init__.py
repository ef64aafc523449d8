"""Faster functions beside the layers' formulas.

The mathematics stands in `layers/` and `losses/`. What computes the same in less time stands here:
ATen's fused kernels, oneDNN, memory layouts, products by the faster library. One table, in
`table.py`, pairs each formula with its faster twin, and a test holds the two equal in every case.

    fast(net)    the same network, made of the faster functions
"""

from lincoln_fn.fastpath.table import fast

__all__ = ["fast"]
