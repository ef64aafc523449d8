"""Faster functions beside the layers' formulas.

The mathematics is in `layers/` and `losses/`. The table in `table.py` pairs each formula with a
faster twin, and tests compare the two in every case.

    fast(net)    the same network, made of the faster functions
"""

from lincoln_fn.faces import face

face(__name__)
