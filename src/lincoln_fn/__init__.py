"""A pure-functional, stateless deep-learning library on torch tensors, without autograd.

Every layer is a pair of pure functions with gradients written by hand:

    y, cache    = layer.forward(params, x)
    dx, dparams = layer.backward(params, cache, g)
"""

import sys

from lincoln_fn.faces import face

__version__ = "0.2.0"

face(__name__, explains=True)

if "IPython" in sys.modules:
    from lincoln_fn.notebook import load_if_in_ipython

    load_if_in_ipython()
