"""The steps of long short-term memory, forward and backward, by loops of their own.

With i, f, g, o the gates of step t, of which layers/lstm.py derives the gradients da_t from dh_t,

    [i f g o]_t = gates of (x_t W_ih + h_{t-1} W_hh + b),
    dh_{t-1}    = g_{t-1} + da_t W_hh^T.

They are in lstm_steps.cpp and lstm_steps_backward.cpp: a tile of sums over W stays in registers
until the gates' functions have been applied, W is laid out by tiles once for all steps, and each
thread has examples of its own, for which it waits for no other. On the way back the gates are
written over by their gradients. There may be several b, of which each step has one, by a code: the
loops of lstm.py have one b, those of lstm_of_codes.py one for each code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.compiled.loops import lanes, loop, threads_for

Tensors: TypeAlias = tuple[Tensor, ...]

# Vectors of units in a tile on the way back, at most.
_TILE: Final = 4


def taken(
    x: Tensor, weight: Tensor, biases: Tensor, codes: Tensor, h: Tensor, c: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor, Tensors]:
    """Take all steps.

    Args:
        x: the sequence (batch, length, n_in).
        weight: W_ih above W_hh, of shape (n_in + hidden, 4 hidden).
        biases: of shape (entries, 4 hidden).
        codes: which of them each step has (batch, length).
        h: the first state (batch, hidden).
        c: likewise.
        reverse: whether to go from the end to the beginning.

    Returns:
        What `forward` does.
    """
    last = 0 if reverse else -1
    tiles = weight.view(-1, 4, h.shape[1] // lanes(), lanes()).permute(2, 0, 1, 3)
    given = (t.contiguous() for t in (x, tiles, biases, h, c, codes))
    gates, cs, y = _forward(*given, reverse)
    return y.transpose(0, 1), y[:, last], cs[:, last], (gates, cs)


def taken_back(
    w_hh: Tensor, c: Tensor, g: Tensor, dh: Tensor, dc: Tensor, codes: Tensor, entries: int,
    reverse: bool, notes: Tensors,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Take all steps on the way back.

    Args:
        w_hh: of shape (hidden, 4 hidden).
        c: the first c (batch, hidden).
        g: dL/dy (batch, length, hidden).
        dh: dL/dh for the last state.
        dc: likewise.
        codes: as `taken` took them.
        entries: how many biases there are.
        reverse: as `taken` took it.
        notes: as `taken` returned them; written over.

    Returns:
        All da (batch * length, 4 hidden), their sums by code (entries, 4 hidden), and dL/dh and
        dL/dc for the first state.
    """
    hidden, first, (gates, cs) = len(w_hh), -1 if reverse else 0, notes
    tile = max(n for n in range(1, _TILE + 1) if hidden % (n * lanes()) == 0) * lanes()
    given = (t.contiguous() for t in (g, w_hh.reshape(-1, tile, 4 * hidden).mT, cs, c, dh, codes))
    first_dc, sums = _backward(*given, dc.contiguous(), gates, entries, reverse)
    return gates.flatten(0, 1), sums.sum(0), gates[:, first] @ w_hh.mT, first_dc


def begun_with(h: Tensor, y: Tensor, reverse: bool) -> Tensor:
    """Put together the h that each step began with.

    Args:
        h: the first (batch, hidden).
        y: all that were made (length, batch, hidden).
        reverse: whether time went from the end to the beginning.

    Returns:
        The h, of shape (batch, length, hidden).

    Example:
        >>> y = torch.tensor([[[1.0]], [[2.0]], [[3.0]]])
        >>> begun_with(torch.zeros(1, 1), y, False).flatten()
        tensor([0., 1., 2.])
    """
    made = y.transpose(0, 1)
    return torch.cat((made[:, 1:], h[:, None]) if reverse else (h[:, None], made[:, :-1]), 1)


def _like(
    x: Tensor, tiles: Tensor, biases: Tensor, h: Tensor, c: Tensor, codes: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    (batch, length, _), hidden = x.shape, h.shape[1]
    gates = x.new_empty(batch, length, 4 * hidden)
    return gates, x.new_empty(batch, length, hidden), x.new_empty(batch, length, hidden)


def _sizes(
    x: Tensor, tiles: Tensor, biases: Tensor, h: Tensor, c: Tensor, codes: Tensor, reverse: bool
) -> dict[str, int]:
    (batch, length, n_in), hidden = x.shape, h.shape[1]
    return {
        "batch": batch, "length": length, "n_in": n_in, "hidden": hidden, "reverse": reverse,
        "threads": threads_for(batch),
    }  # fmt: skip


def _like_backward(
    g: Tensor, tiles: Tensor, cs: Tensor, c: Tensor, dh: Tensor, codes: Tensor, dc: Tensor,
    gates: Tensor, entries: int, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    batch, _, hidden = g.shape
    return torch.empty_like(dc), g.new_empty(threads_for(batch), entries, 4 * hidden)


def _sizes_backward(
    g: Tensor, tiles: Tensor, cs: Tensor, c: Tensor, dh: Tensor, codes: Tensor, dc: Tensor,
    gates: Tensor, entries: int, reverse: bool,
) -> dict[str, int]:  # fmt: skip
    batch, length, hidden = g.shape
    return {
        "batch": batch, "length": length, "hidden": hidden, "entries": entries,
        "reverse": reverse, "threads": threads_for(batch),
    }  # fmt: skip


_forward: Final[Callable[..., tuple[Tensor, Tensor, Tensor]]] = loop(
    "lstm_steps(Tensor x, Tensor tiles, Tensor biases, Tensor h, Tensor c, Tensor codes, "
    "bool reverse) -> (Tensor, Tensor, Tensor)",
    _like,
    _sizes,
)
_backward: Final[Callable[..., tuple[Tensor, Tensor]]] = loop(
    "lstm_steps_backward(Tensor g, Tensor tiles, Tensor cs, Tensor c, Tensor dh, Tensor codes, "
    "Tensor dc, Tensor(a!) gates, int entries, bool reverse) -> (Tensor, Tensor)",
    _like_backward,
    _sizes_backward,
)
