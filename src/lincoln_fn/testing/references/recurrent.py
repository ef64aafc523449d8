"""Recurrent layers: one step, and a sequence of steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import torch
from torch import Tensor

from lincoln_fn.testing.references.known import Candidates, Known, apply


def rnn_step(x: Tensor, h: Tensor, wx: Tensor, wh: Tensor, b: Tensor) -> Tensor:
    """Compute tanh(x Wx + h Wh + b)."""
    return torch.tanh(x @ wx + h @ wh + b)


def rnn(x: Tensor, h0: Tensor, wx: Tensor, wh: Tensor, b: Tensor) -> Tensor:
    """Run the steps along axis 1, and return all states."""
    h, states = h0, []
    for t in range(x.shape[1]):
        h = rnn_step(x[:, t], h, wx, wh, b)
        states.append(h)
    return torch.stack(states, 1)


def lstm_step(
    x: Tensor, h: Tensor, c: Tensor, wx: Tensor, wh: Tensor, b: Tensor, order: str = "ifog"
) -> tuple[Tensor, Tensor]:
    """Run one step of an LSTM: the next h and c."""
    parts = dict(zip(order, (x @ wx + h @ wh + b).chunk(4, 1), strict=True))
    i, f, o = torch.sigmoid(parts["i"]), torch.sigmoid(parts["f"]), torch.sigmoid(parts["o"])
    g = torch.tanh(parts["g"])
    c = f * c + i * g
    return o * torch.tanh(c), c


def lstm(x: Tensor, h0: Tensor, wx: Tensor, wh: Tensor, b: Tensor, order: str = "ifog") -> Tensor:
    """Run an LSTM along axis 1 from a cell of zeros, and return all h."""
    h, c, states = h0, torch.zeros_like(h0), []
    for t in range(x.shape[1]):
        h, c = lstm_step(x[:, t], h, c, wx, wh, b, order)
        states.append(h)
    return torch.stack(states, 1)


ORDERS = ("ifog", "ifgo", "figo", "fgio", "fiog", "iofg")


def find_recurrent(known: Known) -> Candidates:
    """List steps and sequences of the RNN and of the LSTM."""
    shapes = [array.shape for array in known.arrays]
    for gates, function in ((1, rnn_step), (1, rnn), (4, lstm_step), (4, lstm)):
        has_cell = function is lstm_step
        if len(known.y) != 1 + has_cell:
            continue
        x_ndim = 2 if function in (rnn_step, lstm_step) else 3
        for places in _list_places(shapes, x_ndim, gates, has_cell):
            for order in ORDERS if gates == 4 else ("",):
                options = {"order": order} if order else {}
                yield apply(function, *places, **options)


def _list_places(
    shapes: list[torch.Size], x_ndim: int, gates: int, has_cell: bool
) -> Iterator[tuple[int, ...]]:
    """List the orders of arrays that are x, h, (c,) Wx, Wh and b."""
    if len(shapes) != 5 + has_cell:
        return
    for places in permutations(range(len(shapes))):
        x, h, *cell, wx, wh, b = (shapes[i] for i in places)
        if [*map(len, (x, h, wx, wh, b))] != [x_ndim, 2, 2, 2, 1]:
            continue
        width = gates * h[1]
        is_product = x[-1] == wx[0] and h[1] == wh[0] and {wx[1], wh[1], b[0]} == {width}
        if is_product and x[0] == h[0] and all(c == h for c in cell):
            yield places
