"""The table of rows: how each layer that mixes positions decodes.

A layer without a row decodes if it works position by position (`trial.py` tries it), by its
`predict`. Your own layer declares its row beside its mathematics,

    lf.declare(forward, decode=(init, step))

of the function that computes its prediction: its `predict` if it has one of its own.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from lincoln_fn.combine.fixed_point import there as fixed_point_there
from lincoln_fn.combine.outputs import own_loop
from lincoln_fn.core.declaration import declared_by
from lincoln_fn.core.layer import Layer, is_derived, unbound
from lincoln_fn.decoding import attention, convolution, positions, recurrent
from lincoln_fn.decoding.row import Function, Row, Rows
from lincoln_fn.fastpath.experts import there as experts_there
from lincoln_fn.fastpath.table import TWINS
from lincoln_fn.walk.composition import Composition, composition_of

ROWS: Final[Rows] = {
    **attention.ROWS,
    **convolution.ROWS,
    **positions.ROWS,
    **recurrent.ROWS,
}
_FASTER: Final = {
    twin.forward: ROWS[twin.formula.forward]
    for twin in TWINS
    if twin.forward is not None and twin.formula.forward in ROWS
}
# Compositions that run their parts as often, or on as many tokens, as their numbers say, which no
# step can do again.
_WITHOUT_WALK: Final = (fixed_point_there, experts_there)


def row_of(layer: Layer) -> Row | None:
    """Return a layer's row, with its hyperparameters; None if it has none.

    Example:
        >>> row_of(lf.dense(3)), row_of(lf.lstm(3)) is None
        (None, False)
    """
    function, options = _prediction(layer)
    row = ROWS.get(function) or _FASTER.get(function)
    declared = declared_by(function).decode
    if declared is not None:
        row = Row(*declared)
    return row and Row(partial(row.init, **options), partial(row.step, **options), row.pads)


def without_walk(net: Layer) -> Layer:
    """Make single layers of the compositions that decode as a whole, such as `scan`.

    The others are walked by the loop of their `predict`.
    """
    made = composition_of(net)
    if made is None:
        return net
    if row_of(net) is not None or unbound(own_loop(made.predict_there)) in _WITHOUT_WALK:
        return net.replace(predict=net.predict)  # so no walk reaches its parts
    changes = {} if made.predict_there is made.there else {"there": made.predict_there}
    return net.rebuild(tuple(map(without_walk, net.parts)), **changes)


# Any: hyperparameters of any kind.
def _prediction(layer: Layer) -> tuple[Function, dict[str, Any]]:
    """Return the function that computes `predict`, and its hyperparameters."""
    function: Function = layer.forward if is_derived(layer, "predict") else layer.predict
    made = getattr(function, "__self__", None)
    options: dict[str, Any] = {}
    if isinstance(made, Composition):
        function, options = made.predict_there, {"made": made}
    bound = function.keywords if isinstance(function, partial) else {}
    return unbound(function), options | bound
