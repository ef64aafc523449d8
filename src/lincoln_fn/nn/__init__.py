"""Constructors: a layer as a value to compose, such as `dense(500)`.

Each family of layers has a file of its own; the names of all of them stand here and at the top.
"""

from lincoln_fn.nn import activations, linear
from lincoln_fn.nn.activations import *  # noqa: F403  # each family lists its names in __all__
from lincoln_fn.nn.linear import *  # noqa: F403

__all__ = [*activations.__all__, *linear.__all__]
