"""A layer that computes in another dtype than that of its parameters.

Derivation. As in torch, a cast has the derivative 1. So g is cast before the layer's backward, and
dx and dparams after it. The parameters that an optimizer updates keep their own dtype, so that
small steps are not lost, and so do running statistics.
"""

from __future__ import annotations

from functools import partial

import torch

from lincoln_fn import core
from lincoln_fn.core import Arrays, ByPosition, Cache, FloatingDtype, Layer, Params, cast, record
from lincoln_fn.walk.internal import Record, VisitBack, VisitRecord, VisitThere, around


@record
class InDtypeCache:
    """The cast parameters, the layer's own cache, and the dtype outside."""

    params: Params
    cache: Cache
    outside: torch.dtype = core.static()


def _there(
    visit: VisitThere,
    params: Params,
    x: Arrays,
    *,
    dtype: torch.dtype,
    out_dtype: torch.dtype | None,
) -> tuple[Arrays, InDtypeCache]:
    # That of x's floats or, if x has none, of the parameters.
    leaves = core.tree.leaves((x, params))
    floats = (leaf.dtype for leaf in leaves if leaf.is_floating_point())
    outside = next(floats, torch.get_default_dtype())
    inside = cast(params, dtype)
    y, record = visit(0, inside, cast(x, dtype))
    return cast(y, out_dtype or outside), InDtypeCache(inside, record, outside)


def _back(
    visit: VisitBack, params: Params, cache: InDtypeCache, g: Arrays, *, dtype: torch.dtype
) -> tuple[Arrays, Record]:
    core.check_cache("in_dtype", cache, InDtypeCache)
    dx, record = visit(0, cache.params, cache.cache, cast(g, dtype))
    return cast(dx, cache.outside), record


def _gather(visit: VisitRecord, params: Params, records: Record) -> Params:
    return core.cast_like(visit(0, params, records), params)


def _advance(visit: VisitThere, params: Params, cache: InDtypeCache) -> Params:
    core.check_cache("in_dtype", cache, InDtypeCache)
    return core.cast_like(visit.advance(0, params, cache.cache), params, states=True)


@core.constructor
def in_dtype(
    layer: Layer,
    dtype: FloatingDtype,
    out_dtype: ByPosition[FloatingDtype | None] = None,
) -> Layer:
    """Compute a layer in another dtype, such as bfloat16, for which newer processors have units.

    Args:
        dtype: x and the parameters are cast to it. y and dx are cast to x's dtype or, if x has no
            floats, to that of the parameters; dparams to those of the parameters.
        out_dtype: y's, if not x's: for instance float32, for images that are stored in bfloat16.

    Example:
        >>> net = lf.serial(in_dtype(lf.dense(5), torch.bfloat16), lf.relu())
        >>> x = torch.ones(2, 3)
        >>> net.predict(net.init(lf.Key(0), x), x).dtype
        torch.float32
    """
    make = partial(around, part=layer, mask="part")
    return core.bare(make, there=_there, back=_back, gather=_gather, advance=_advance)
