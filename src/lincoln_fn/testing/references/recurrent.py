"""Recurrent layers, and losses of scores and labels, of a classifier and of two arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import TypeAlias

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


# Of scores and labels.
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def softmax_loss(x: Tensor, y: Tensor) -> Tensor:
    """Average the cross-entropy of scores and labels over the examples."""
    p = torch.log_softmax(x, 1)
    return -p[torch.arange(len(x)), y].mean()


def svm_loss(x: Tensor, y: Tensor, delta: float = 1.0) -> Tensor:
    """Average the multi-class hinge loss over the examples."""
    rows = torch.arange(len(x))
    margins = torch.relu(x - x[rows, y].unsqueeze(1) + delta)
    others = torch.ones_like(x)
    others[rows, y] = 0
    return (margins * others).sum(1).mean()


def temporal_softmax_loss(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Add up the cross-entropy over the steps that count, for each example of the batch."""
    p = torch.log_softmax(x.flatten(0, 1), 1)
    chosen = p[torch.arange(len(p)), y.flatten()]
    return -(chosen * mask.flatten()).sum() / len(x)


def linear_softmax_loss(w: Tensor, x: Tensor, y: Tensor, reg: float, factor: float = 1.0) -> Tensor:
    """Add the squares of a classifier's weights to its cross-entropy."""
    return softmax_loss(x @ w, y) + factor * reg * (w * w).sum()


def linear_svm_loss(w: Tensor, x: Tensor, y: Tensor, reg: float, factor: float = 1.0) -> Tensor:
    """Add the squares of a classifier's weights to its hinge loss."""
    return svm_loss(x @ w, y) + factor * reg * (w * w).sum()


def find_loss(known: Known) -> Candidates:
    """List losses; labels that are not among the arguments are found by the gradients."""
    (y,) = known.y
    if y.numel() != 1:
        return
    yield from _find_of_two(known)
    yield from _find_of_classifier(known)
    if len(known.arrays) == 1 and known.arrays[0].ndim == 2:
        x = known.arrays[0]
        for labels in _list_labels(known, x):
            for of in (softmax_loss, svm_loss):
                for scale in (1.0, float(len(x))):
                    yield apply(_scaled, 0, of=of, labels=labels, scale=scale, shape=y.shape)


def _scaled(x: Tensor, of: Loss, labels: Tensor, scale: float, shape: torch.Size) -> Tensor:
    value = of(x, labels)
    return (value if scale == 1 else value * scale).reshape(shape)


def _find_of_two(known: Known) -> Candidates:
    if len(known.arrays) == 2 and known.arrays[0].shape == known.arrays[1].shape:
        shape = known.arrays[0].shape
        for scale in (1 / shape.numel(), 0.5 / shape.numel(), 1.0, 0.5, 1 / shape[:1].numel()):
            yield apply(_squared, 0, 1, scale=scale)


def _squared(a: Tensor, b: Tensor, scale: float) -> Tensor:
    return scale * ((a - b) ** 2).sum()


def _find_of_classifier(known: Known) -> Candidates:
    """List losses of a linear classifier's weights, with the weight decay that the output shows."""
    (y,) = known.y
    if len(known.arrays) != 1 or known.arrays[0].ndim != 2:
        return
    w = known.arrays[0]
    for x in (c for c in known.constants if c.is_floating_point() and c.ndim == 2):
        for labels in known.integers:
            if x.shape[1] != w.shape[0] or not _are_labels(labels, x.shape[:1], w.shape[1]):
                continue
            for of in (softmax_loss, svm_loss):
                squares = float((w * w).sum())
                more = float(y - of(x @ w, labels)) / squares if squares else 0.0
                # A round number fits exactly.
                reg = float(f"{more:.10g}") if abs(more) > 1e-12 else 0.0
                yield apply(_classify, 0, x=x, labels=labels, reg=reg, of=of, shape=y.shape)


def _are_labels(labels: Tensor, shape: torch.Size, classes: int) -> bool:
    """Return whether there is the number of a class for each example."""
    return labels.shape == shape and bool(((labels >= 0) & (labels < classes)).all())


def _classify(
    w: Tensor, x: Tensor, labels: Tensor, reg: float, of: Loss, shape: torch.Size
) -> Tensor:
    loss = of(x @ w, labels)
    return (loss + reg * (w * w).sum() if reg else loss).reshape(shape)


def _list_labels(known: Known, x: Tensor) -> list[Tensor]:
    given = [i for i in known.integers if _are_labels(i, x.shape[:1], x.shape[1])]
    if given:
        return given
    found = known.gradients()
    return [found[0].argmin(1)] if found else []
