"""A layer that keeps only its input, and runs again when its cache is needed.

`forward` is pure. Run again with the same params it gives the same cache, with the same dropout
masks. (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.)
"""

from __future__ import annotations

from lincoln_fn.core import tree
from lincoln_fn.core.layer import Arrays, Layer, Params, unchanged
from lincoln_fn.core.record import record
from lincoln_fn.errors.arguments import checked
from lincoln_fn.errors.shapes import check_cache
from lincoln_fn.walk import one_part
from lincoln_fn.walk.arrangement import ITS_PART
from lincoln_fn.walk.composition import composition
from lincoln_fn.walk.parts import take_ownership
from lincoln_fn.walk.visits import Record, VisitBack, VisitThere


@record
class Kept:
    """The input, and the params with the states advanced (None if the layer carries none)."""

    # The trained tensors in `advanced` are the caller's, so only its states take memory.

    x: Arrays
    advanced: Params


def _there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Kept]:
    """Keep x, and drop the layer's own cache."""
    y, record = visit(0, params, x)
    is_still = visit.parts[0].advance is unchanged
    return y, Kept(x, None if is_still else visit.advance(0, params, record))


def _back(visit: VisitBack, params: Params, cache: Kept, g: Arrays) -> tuple[Arrays, Record]:
    """Run forward again, and then backward."""
    check_cache("checkpointed", cache, Kept)
    return visit(0, params, take_ownership(visit.parts[0].forward(params, cache.x)[1]), g)


def _advance(visit: VisitThere, params: Params, cache: Kept) -> Params:
    check_cache("checkpointed", cache, Kept)
    return tree.map(lambda _, trained: trained, cache.advanced, params)


@checked
def checkpointed(layer: Layer) -> Layer:
    """Trade time for memory: keep only x, and run forward again during backward.

    Args:
        layer: the layer, such as a block of several in a deep network.

    Returns:
        The layer, whose params are the layer's own.

    Raises:
        LayerError: from its functions, if the layer raises one, or the cache is another layer's.

    Example:
        >>> checkpointed(lf.tanh()).forward((), torch.zeros(2))[1]
        Kept(x=float32[2], advanced=None)
    """
    return composition(
        checkpointed, (layer,), _there, _back,
        gather=one_part.gather, init=one_part.init, arrange=ITS_PART,
        advance=_advance, needs_dx=one_part.needs_dx, mask="part",
    )  # fmt: skip
