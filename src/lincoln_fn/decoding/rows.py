"""The table of rows: how each layer that mixes positions decodes.

A layer without a row decodes by its `predict` if it works position by position (`trial.py` tries
it). Your own layer declares its row for its `predict` or, without one of its own, its `forward`:

    lf.declare(forward, decode=(init, step))
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from lincoln_fn import core
from lincoln_fn.combine import fixed_point, inference, scan
from lincoln_fn.core import Function, Layer, file_of, made_by
from lincoln_fn.decoding import attention, convolution, positions, recurrent
from lincoln_fn.decoding.row import Row, Rows
from lincoln_fn.fastpath import gives_own_tokens
from lincoln_fn.walk.internal import Composition, composition_of

ROWS: Final[Rows] = {**attention.ROWS, **convolution.ROWS, **positions.ROWS, **recurrent.ROWS}


def row_of(layer: Layer) -> Row | None:
    """Return a layer's row, with its hyperparameters; None if it has none."""
    if made_by(layer, inference):
        assert layer.spec is not None, "it has a constructor"
        return row_of(layer.spec["layer"])  # whose prediction it is
    function: Function = layer.forward if core.is_derived(layer, "predict") else layer.predict
    made = getattr(function, "__self__", None)
    options: dict[str, Any] = {}  # Any: a composition
    if isinstance(made, Composition):
        function, options = made.predict_there, {"made": made}
    declared = core.declared_by(function).decode
    file = file_of(layer) or core.file_of_forward(layer)
    row = recurrent.SCAN if made_by(layer, scan) else ROWS.get(file)
    row = Row(*declared) if declared else row
    if not row or (isinstance(made, Composition) and made.taps):
        return None
    init, step = (core.bind_like(partial(f, **options), function) for f in (row.init, row.step))
    return Row(init, step, row.pads)


def without_walk(net: Layer) -> Layer:
    """Make single layers of the compositions that decode as a whole, such as `scan`."""
    made = composition_of(net)
    if made is None:
        return net
    # These run their parts as often, or on as many tokens, as their numbers say.
    has_no_walk = made_by(net, fixed_point) or gives_own_tokens(net)
    if has_no_walk or row_of(net) is not None:
        return net.replace(predict=net.predict, spec=net.spec)  # so no walk reaches its parts
    changes = {} if made.predict_there is made.there else {"there": made.predict_there}
    return net.rebuild(tuple(map(without_walk, net.parts)), **changes)
