from lincoln_fn.curvature.duals import (
    check_not_nested as check_not_nested, fast_for_forward_mode as fast_for_forward_mode,
    forward_mode as forward_mode, loss_gradient as loss_gradient, tangents_leaf as tangents_leaf,
    tangents_of as tangents_of, values_of as values_of, walk_of as walk_of,
    with_tangents as with_tangents,
)
