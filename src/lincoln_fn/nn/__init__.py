"""Constructors: a layer as a value to compose, such as `dense(500)`.

Each family of layers has a file of its own; the names of all of them stand here and at the top.
"""

from lincoln_fn.nn import (
    activations,
    adaptive_pooling,
    attention,
    convolution,
    dropouts,
    embeddings,
    linear,
    lp_pooling,
    merge,
    normalisation,
    padding,
    piecewise,
    pooling,
    rectifiers,
    recurrent,
    shape,
)
from lincoln_fn.nn.activations import *  # noqa: F403  # each family lists its names in __all__
from lincoln_fn.nn.adaptive_pooling import *  # noqa: F403
from lincoln_fn.nn.attention import *  # noqa: F403
from lincoln_fn.nn.convolution import *  # noqa: F403
from lincoln_fn.nn.dropouts import *  # noqa: F403
from lincoln_fn.nn.embeddings import *  # noqa: F403
from lincoln_fn.nn.linear import *  # noqa: F403
from lincoln_fn.nn.lp_pooling import *  # noqa: F403
from lincoln_fn.nn.merge import *  # noqa: F403
from lincoln_fn.nn.normalisation import *  # noqa: F403
from lincoln_fn.nn.padding import *  # noqa: F403
from lincoln_fn.nn.piecewise import *  # noqa: F403
from lincoln_fn.nn.pooling import *  # noqa: F403
from lincoln_fn.nn.rectifiers import *  # noqa: F403
from lincoln_fn.nn.recurrent import *  # noqa: F403
from lincoln_fn.nn.shape import *  # noqa: F403

__all__ = [
    *merge.__all__,
    *activations.__all__,
    *piecewise.__all__,
    *rectifiers.__all__,
    *convolution.__all__,
    *linear.__all__,
    *embeddings.__all__,
    *attention.__all__,
    *normalisation.__all__,
    *pooling.__all__,
    *recurrent.__all__,
    *adaptive_pooling.__all__,
    *lp_pooling.__all__,
    *padding.__all__,
    *shape.__all__,
    *dropouts.__all__,
]
