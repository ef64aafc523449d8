"""The inverse of a flow: new examples from noise, through the same networks.

A `coupling` is solved for its input, without an inverse of its network. In its names,

    x_1 = y_1
    x_2 = (y_2 - t) e^(-s)
    l = l' - sum s

since s and t are what the network makes of x_1. A `serial` is solved from its last part to its
first.
"""

from __future__ import annotations

from lincoln_fn.combine.coupling import (
    WithLogDet,
    coupling,
    halves,
    join,
    scale_and_shift,
    with_log_det,
)
from lincoln_fn.combine.serial import is_serial
from lincoln_fn.core import Arrays, Layer, LayerError, Params, checked, made_by
from lincoln_fn.walk import Composition, VisitThere, check_entries
from lincoln_fn.walk.internal import PREDICT, composition_of


@checked
def inverse(flow: Layer, params: Params, y: Arrays) -> WithLogDet:
    """Compute the x of a flow's y, from the last step to the first: new examples from noise.

    Args:
        flow: a `coupling`, or a `serial` of them.
        y: a tensor, such as numbers from the standard normal distribution, or (y, log_det).

    Returns:
        (x, log_det), where log |det| of the Jacobian of the inverse of each example is added to
        log_det, or to 0 for a tensor.

    Raises:
        LayerError: if a layer is none of these, or y does not fit.

    Example:
        >>> flow, z = lf.serial(lf.coupling(lf.dense(2))), torch.zeros(3, 2)
        >>> x, log_det = inverse(flow, flow.init(lf.Key(0), z), z)
        >>> x.shape, log_det.shape
        (torch.Size([3, 2]), torch.Size([3]))
    """
    composed = composition_of(flow)
    if composed is not None and is_serial(flow):
        check_entries(composed.label, "params", params, len(composed.parts))
        for part, entry in zip(reversed(composed.placed), reversed(params), strict=True):
            y = inverse(part, entry, y)
        x: WithLogDet = y
        return x
    if composed is None or not made_by(flow, coupling):
        problem = f"expected a coupling, or a serial of them, got {flow.name}"
        raise LayerError("inverse", f"{problem}, whose inverse is not known")
    assert flow.spec is not None, "`coupling` made it"
    return _solve(composed, params, y, dim=flow.spec["dim"], swap=flow.spec["swap"])


def _solve(made: Composition, params: Params, y: Arrays, *, dim: int, swap: bool) -> WithLogDet:
    """Compute x_2 = (y_2 - t) e^-s and l = l' - sum s."""
    y, log_det = with_log_det(made.label, y)
    kept, changed = halves(made.label, y, dim, swap)
    s, t, _, _ = scale_and_shift(VisitThere(made, PREDICT), params, kept, changed, dim)
    total = s.flatten(1).sum(1)
    x = join(kept, (changed - t) * (-s).exp(), dim, swap)
    return x, -total if log_det is None else log_det - total
