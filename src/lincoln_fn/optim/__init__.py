"""Optimizers, as values: `adamw(1e-3)`.

Each optimizer has its own file: the rules of one leaf, of which `leafwise` makes it. `transforms`
changes the gradients before an optimizer gets them, and `by_path` gives the parts of a network to
several optimizers.
"""

from lincoln_fn.faces import face

face(__name__, explains=True)
