"""Faster functions beside the formulas of layers and optimizers.

The mathematics is in `layers/` and `optim/`. `table.py` pairs each layer's formula with a faster
twin, `optimizers.py` those of optimizers, and tests compare the two in every case.

    fast(net)    the same network, made of the faster functions
"""

from lincoln_fn.faces import face

face(__name__)
