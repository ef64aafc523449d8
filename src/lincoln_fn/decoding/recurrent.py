"""How recurrent layers decode: from the state after the positions before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from lincoln_fn.combine.scan import there as scan_there
from lincoln_fn.core import tree
from lincoln_fn.core.layer import Arrays, Params
from lincoln_fn.core.record import record
from lincoln_fn.decoding.row import Row, Rows
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.layers import gru, lstm, rnn
from lincoln_fn.walk.composition import Composition
from lincoln_fn.walk.visits import PREDICT, PartsThere


@record
class Recurrent:
    """The last state of a recurrent layer; None before the first position of a `scan`."""

    last: Arrays


# Any: the hyperparameters of rnn, gru and lstm.
def _init(
    params: Any,
    x: Arrays,
    *,
    axis: int,
    max_length: int,
    forward: Callable[..., Any],
    batch_first: bool,
    **options: Any,
) -> Recurrent:
    if len(params.cells[0]) == 2:
        raise LayerError("", "is bidirectional: it also runs from the end of the text")
    _check_axis(axis, -2 if batch_first else -3)
    (_, last), _ = forward(params, (_sequence(x), None), batch_first=batch_first, **options)
    return Recurrent(tree.map(torch.zeros_like, last))


def _step(
    params: Any,
    state: Recurrent,
    x: Arrays,
    *,
    position: Tensor,
    forward: Callable[..., Any],
    **options: Any,
) -> tuple[Arrays, Recurrent]:
    """Compute the outputs from the last state."""
    return _with_last(x, forward(params, _from(state, x), **options)[0])


def _scan_init(
    params: Params,
    x: Arrays,
    *,
    axis: int,
    max_length: int,
    dim: int,
    reverse: bool,
    has_output: bool,
    made: Composition,
) -> Recurrent:
    if reverse:
        raise LayerError("", "runs from the end of the text")
    ndim = _sequence(x).ndim
    _check_axis(axis, dim % ndim - ndim)
    return Recurrent(None)  # only the cell knows its first state


def _scan_step(
    params: Params,
    state: Recurrent,
    x: Arrays,
    *,
    position: Tensor,
    made: Composition,
    **options: Any,
) -> tuple[Arrays, Recurrent]:
    """Run the cell from the last state."""
    visit = PartsThere(made, PREDICT)
    return _with_last(x, scan_there(visit, params, _from(state, x), **options)[0])


def _check_axis(axis: int, own: int) -> None:
    if axis != own:
        raise LayerError("", f"runs along axis {own}, but the positions are in axis {axis}")


def _sequence(x: Arrays) -> Tensor:
    sequence: Tensor = x[0] if type(x) is tuple else x
    return sequence


def _from(state: Recurrent, x: Arrays) -> Arrays:
    """Add the last state to x, behind the sequence and before its mask."""
    return (x[0], state.last, *x[2:]) if type(x) is tuple else (x, state.last)


def _with_last(x: Arrays, made: Arrays) -> tuple[Arrays, Recurrent]:
    return (made if type(x) is tuple else made[0]), Recurrent(made[1])


def _row(forward: Callable[..., Any]) -> Row:
    return Row(partial(_init, forward=forward), partial(_step, forward=forward))


ROWS: Final[Rows] = {
    **{layer.forward: _row(layer.forward) for layer in (rnn, gru, lstm)},
    scan_there: Row(_scan_init, _scan_step),
}
