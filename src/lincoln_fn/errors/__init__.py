"""How a wrong argument is told: errors, checks of arguments and shapes, suggestions."""

from lincoln_fn.errors.errors import LayerError, NonFiniteError
from lincoln_fn.errors.shapes import check_axis as check_axis
from lincoln_fn.errors.shapes import check_bias as check_bias
from lincoln_fn.errors.shapes import check_cache as check_cache
from lincoln_fn.errors.shapes import check_cotangent as check_cotangent
from lincoln_fn.errors.shapes import check_input as check_input
from lincoln_fn.errors.shapes import check_like as check_like
from lincoln_fn.errors.shapes import check_params as check_params
from lincoln_fn.errors.shapes import wrong_shape as wrong_shape

__all__ = ["LayerError", "NonFiniteError"]
