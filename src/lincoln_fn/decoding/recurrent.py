"""How recurrent layers decode: from the state after the positions before."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from lincoln_fn import layers
from lincoln_fn.combine.scan import there as scan_there
from lincoln_fn.core import Arrays, Function, LayerError, Params, record, tree
from lincoln_fn.decoding.row import Row, Rows
from lincoln_fn.walk.internal import PREDICT, Composition, VisitThere


@record
class Recurrent:
    """The last state of a recurrent layer; None before the first position of a `scan`."""

    last: Arrays


def _init(
    params: Params, x: Arrays, *, axis: int, max_length: int, forward: Function, sequences: int,
    **options: object,
) -> Recurrent:  # fmt: skip
    if len(getattr(params, "cells", [()])[0]) == 2:
        raise LayerError("", "is bidirectional: it also runs from the end of the text")
    is_scan = forward is layers.linear_scan.forward
    _check_axis(axis, 1 - x[0].ndim if is_scan else -2 if options.get("batch_first", True) else -3)
    (_, last), _ = forward(params, _from(Recurrent(None), x, sequences), **options)
    return Recurrent(tree.map(torch.zeros_like, last))


def _step(
    params: Params, state: Recurrent, x: Arrays, *, position: Tensor, forward: Function,
    sequences: int, **options: object,
) -> tuple[Arrays, Recurrent]:  # fmt: skip
    made = forward(params, _from(state, x, sequences), **options)[0]
    return _with_last(x, made, sequences)


def _scan_init(
    params: Params, x: Arrays, *, axis: int, max_length: int, dim: int, reverse: bool,
    **options: object,
) -> Recurrent:  # fmt: skip
    if reverse:
        raise LayerError("", "runs from the end of the text")
    ndim = (x[0] if type(x) is tuple else x).ndim
    _check_axis(axis, dim % ndim - ndim)
    return Recurrent(None)  # only the cell knows its first state


# Any: the hyperparameters of `scan`.
def _scan_step(
    params: Params, state: Recurrent, x: Arrays, *, position: Tensor, made: Composition,
    sequences: int = 1, **options: Any,
) -> tuple[Arrays, Recurrent]:  # fmt: skip
    visit, given = VisitThere(made, PREDICT), _from(state, x, sequences)
    y, _ = scan_there(visit, params, given, sequences=sequences, **options)
    return _with_last(x, y, sequences)


def _check_axis(axis: int, own: int) -> None:
    if axis != own:
        raise LayerError("", f"runs along axis {own}, but the positions are in axis {axis}")


def _from(state: Recurrent, x: Arrays, sequences: int = 1) -> Arrays:
    """Add the last state to x, behind its sequences and before its mask."""
    entries = x if type(x) is tuple else (x,)
    missing = (None,) * (sequences - len(entries))
    return (*entries[:sequences], *missing, state.last, *entries[sequences + 1 :])


def _with_last(x: Arrays, made: Arrays, sequences: int = 1) -> tuple[Arrays, Recurrent]:
    has_state = type(x) is tuple and len(x) > sequences
    return (made if has_state else made[0]), Recurrent(made[1])


def _row(forward: Function, n: int) -> Row:
    init = partial(_init, forward=forward, sequences=n)
    return Row(init, partial(_step, forward=forward, sequences=n))


# The most sequences in x of a layer, behind which its state is.
_SEQUENCES: Final = {
    layers.rnn: 1, layers.gru: 1, layers.lstm: 1, layers.linear_scan: 2,
    layers.gated_linear_recurrence: 3, layers.linear_attention: 4, layers.selective_scan: 4,
}  # fmt: skip
ROWS: Final[Rows] = {layer: _row(layer.forward, n) for layer, n in _SEQUENCES.items()}
SCAN: Final = Row(_scan_init, _scan_step)
