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
from lincoln_fn.layers import (
    gated_linear_recurrence,
    gru,
    linear_attention,
    linear_scan,
    lstm,
    rnn,
    selective_scan,
)
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
    given = _from(Recurrent(None), x)
    (_, last), _ = forward(params, given, batch_first=batch_first, **options)
    return Recurrent(tree.map(torch.zeros_like, last))


# Any: the hyperparameters of a linear recurrence.
def _linear_init(
    params: Params,
    x: tuple[Tensor, ...],
    *,
    axis: int,
    max_length: int,
    forward: Callable[..., Any],
    sequences: int,
    **options: Any,
) -> Recurrent:
    _check_axis(axis, 1 - x[0].ndim if forward is linear_scan.forward else -2)
    (_, last), _ = forward(params, _from(Recurrent(None), x, sequences), **options)
    return Recurrent(tree.map(torch.zeros_like, last))


def _step(
    params: Any,
    state: Recurrent,
    x: Arrays,
    *,
    position: Tensor,
    forward: Callable[..., Any],
    sequences: int,
    **options: Any,
) -> tuple[Arrays, Recurrent]:
    """Compute the outputs from the last state."""
    made = forward(params, _from(state, x, sequences), **options)[0]
    return _with_last(x, made, sequences)


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
    sequences: int = 1,
) -> Recurrent:
    if reverse:
        raise LayerError("", "runs from the end of the text")
    ndim = (x[0] if type(x) is tuple else x).ndim
    _check_axis(axis, dim % ndim - ndim)
    return Recurrent(None)  # only the cell knows its first state


def _scan_step(
    params: Params,
    state: Recurrent,
    x: Arrays,
    *,
    position: Tensor,
    made: Composition,
    sequences: int = 1,
    **options: Any,
) -> tuple[Arrays, Recurrent]:
    """Run the cell from the last state."""
    visit, given = PartsThere(made, PREDICT), _from(state, x, sequences)
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


def _row(forward: Callable[..., Any]) -> Row:
    return Row(partial(_init, forward=forward), partial(_step, forward=forward, sequences=1))


def _linear_row(forward: Callable[..., Any], sequences: int) -> Row:
    bound: dict[str, Any] = {"forward": forward, "sequences": sequences}  # Any: for mypy
    return Row(partial(_linear_init, **bound), partial(_step, **bound))


# The most sequences in x of a layer, behind which its state is.
_LINEAR: Final = {
    linear_scan: 2,
    gated_linear_recurrence: 3,
    linear_attention: 4,
    selective_scan: 4,
}
ROWS: Final[Rows] = {
    **{layer: _row(layer.forward) for layer in (rnn, gru, lstm)},
    **{layer: _linear_row(layer.forward, n) for layer, n in _LINEAR.items()},
}
SCAN: Final = Row(_scan_init, _scan_step)
