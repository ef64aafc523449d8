"""Faster functions beside the layers' formulas.

The mathematics is in `layers/` and `losses/`. Here are functions that compute the same in less
time: ATen's fused kernels, oneDNN, memory layouts, products by the faster library. The table in
`table.py` pairs each formula with its faster twin, and tests compare the two in every case.

    fast(net)    the same network, made of the faster functions
"""

from lincoln_fn.faces import face

face(__name__)
