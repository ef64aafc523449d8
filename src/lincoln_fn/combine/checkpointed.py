"""A layer that keeps only its input, and runs again when its cache is needed.

`forward` is pure: run again, it gives the same cache, with the same dropout masks. (Chen et al.,
"Training Deep Nets with Sublinear Memory Cost", 2016.)
"""

from __future__ import annotations

from lincoln_fn.combine._uses import Kept, keep, with_states
from lincoln_fn.core import Arrays, Layer, Params, check_cache, checked
from lincoln_fn.walk import VisitBack, VisitThere
from lincoln_fn.walk.internal import Record, around


def _there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Kept]:
    """Keep x, and drop the layer's own cache."""
    y, record = visit(0, params, x)
    return y, keep(visit, x, params, record)


def _back(visit: VisitBack, params: Params, cache: Kept, g: Arrays) -> tuple[Arrays, Record]:
    """Run forward again, and then backward."""
    check_cache("checkpointed", cache, Kept)
    return visit(0, params, visit.parts[0].forward(params, cache.arrays)[1], g)


@checked
def checkpointed(layer: Layer) -> Layer:
    """Trade time for memory: keep only x, and run forward again during backward.

    The params are the layer's own.

    Example:
        >>> checkpointed(lf.tanh()).forward((), torch.zeros(2))[1]
        Kept(arrays=float32[2], advanced=None)
    """
    return around(checkpointed, layer, _there, _back, advance=with_states, mask="part")
