"""Optimizers, as values: `adamw(1e-3)`.

Each optimizer has its own file: the rules of one leaf, of which `leafwise` makes it. `transforms`
change its gradients, and `by_path` gives the parts of a network to several optimizers.
"""

from lincoln_fn.faces import face

face(__name__, explains=True)
