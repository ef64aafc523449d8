"""Layers side by side: y_i = layer_i(x_i).

Derivation. y_i depends on x_i alone, so dx_i is layer i's backward of g_i.
"""

from __future__ import annotations

from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Cache, Layer, Params
from lincoln_fn.errors.arguments import checked
from lincoln_fn.walk.composition import composition
from lincoln_fn.walk.parts import check_entries
from lincoln_fn.walk.visits import Record, VisitBack, VisitThere


def _there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Record]:
    """Give entry i of x to layer i."""
    for what, given in (("params", params), ("x", x)):
        check_entries(visit.label, what, given, len(visit.parts))
    results = [visit(i, entry, x[i]) for i, entry in enumerate(params)]
    return tuple(y for y, _ in results), tuple(record for _, record in results)


def _back(visit: VisitBack, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    """Give entry i of g to layer i."""
    for what, given in (("params", params), ("the cache", cache), ("g", g)):
        check_entries(visit.label, what, given, len(visit.parts))
    results = [visit(i, entry, cache[i], g[i]) for i, entry in enumerate(params)]
    return tuple(dx for dx, _ in results), tuple(record for _, record in results)


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    check_entries("parallel", "x", x, len(parts))
    return tuple(part.init(key.fold_in(i), x[i]) for i, part in enumerate(parts))


def _needs_dx(i: int, params: Params) -> bool:
    return False


@checked
def parallel(*layers: Layer) -> Layer:
    """Put layers side by side, each with an input of its own: y_i = layer_i(x_i).

    Args:
        *layers: the parts.

    Returns:
        The layer. Its x, y, params, caches and gradients are tuples with one entry per part.

    Raises:
        LayerError: from its functions, if a part raises one, or a tuple has the wrong number of
            entries.

    Example:
        >>> net = parallel(lf.relu(), lf.tanh())
        >>> net.predict(((), ()), (torch.tensor([-1.0]), torch.tensor([0.0])))
        (tensor([0.]), tensor([0.]))
    """
    return composition(
        parallel, layers, _there, _back, init=_init, needs_dx=_needs_dx, reads_once=True
    )
