"""Initial values for parameters, chosen by keyword: `dense(10, weight_init=normal(0.01))`."""

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.initializers.initializer import Fans as Fans
from lincoln_fn.initializers.initializer import Initializer as Initializer
from lincoln_fn.initializers.plain import constant as constant
from lincoln_fn.initializers.plain import normal as normal
from lincoln_fn.initializers.plain import ones as ones
from lincoln_fn.initializers.plain import truncated_normal as truncated_normal
from lincoln_fn.initializers.plain import uniform as uniform
from lincoln_fn.initializers.plain import zeros as zeros
from lincoln_fn.initializers.scaled import fan_in_uniform as fan_in_uniform
from lincoln_fn.initializers.scaled import gain as gain
from lincoln_fn.initializers.scaled import glorot_normal as glorot_normal
from lincoln_fn.initializers.scaled import glorot_uniform as glorot_uniform
from lincoln_fn.initializers.scaled import he_normal as he_normal
from lincoln_fn.initializers.scaled import he_uniform as he_uniform
from lincoln_fn.initializers.scaled import lecun_normal as lecun_normal
from lincoln_fn.initializers.scaled import lecun_uniform as lecun_uniform
from lincoln_fn.initializers.structured import dirac as dirac
from lincoln_fn.initializers.structured import identity as identity
from lincoln_fn.initializers.structured import orthogonal as orthogonal
from lincoln_fn.initializers.structured import sparse as sparse

_export_all(globals())
