"""The steps of long short-term memory, forward and backward, by loops of their own.

With i, f, g, o the gates of step t, of which layers/lstm.py derives the gradients da_t from dh_t,

    [i f g o]_t = gates of (x_t W_ih + h_{t-1} W_hh + b),
    dh_{t-1}    = g_{t-1} + da_t W_hh^T.

They are computed by lstm_steps.cpp and lstm_steps_backward.cpp. A tile of sums over W stays in
registers until the gates' functions have been applied. W is laid out by tiles once for all steps.
Each thread has examples of its own, for which it waits for no other. The backward pass replaces the
gates by their gradients, in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.cpp_kernel import cpp_kernel, threads_for

Tensors: TypeAlias = tuple[Tensor, ...]

# Vectors of units in a tile on the way back, at most.
_TILE: Final = 4


def take_steps(
    x: Tensor, weight: Tensor, bias: Tensor, h: Tensor, c: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor, Tensors]:
    """Compute all steps.

    x is (batch, length, n_in), weight W_ih above W_hh (n_in + hidden, 4 hidden), h and c the first
    state (batch, hidden). Returns y (length, batch, hidden), the last h and c, and for
    `steps_backward` the gates and every c.
    """
    last = 0 if reverse else -1
    tiles = weight.view(-1, 4, h.shape[1] // lanes(), lanes()).permute(2, 0, 1, 3)
    given = (t.contiguous() for t in (x, tiles, bias, h, c))
    gates, cs, y = _forward(*given, reverse)
    return y.transpose(0, 1), y[:, last], cs[:, last], (gates, cs)


def steps_backward(
    w_hh: Tensor, c: Tensor, g: Tensor, dh: Tensor, dc: Tensor, reverse: bool, saved: Tensors
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute all da (batch * length, 4 hidden), their sum, and dL/dh, dL/dc of the first state.

    g is dL/dy (batch, length, hidden); dh and dc are of the last state. The saved gates are
    updated in place.
    """
    hidden, first, (gates, cs) = len(w_hh), -1 if reverse else 0, saved
    tile = max(n for n in range(1, _TILE + 1) if hidden % (n * lanes()) == 0) * lanes()
    given = (t.contiguous() for t in (g, w_hh.reshape(-1, tile, 4 * hidden).mT, cs, c, dh))
    first_dc, sums = _backward(*given, dc.contiguous(), gates, reverse)
    return gates.flatten(0, 1), sums.sum(0), gates[:, first] @ w_hh.mT, first_dc


def previous_h(h: Tensor, y: Tensor, reverse: bool) -> Tensor:
    """Give the h that each step began with (batch, length, hidden): the first, then those of y.

    Example:
        >>> y = torch.tensor([[[1.0]], [[2.0]], [[3.0]]])
        >>> previous_h(torch.zeros(1, 1), y, False).flatten()
        tensor([0., 1., 2.])
    """
    made = y.transpose(0, 1)
    return torch.cat((made[:, 1:], h[:, None]) if reverse else (h[:, None], made[:, :-1]), 1)


def _like(
    x: Tensor, tiles: Tensor, bias: Tensor, h: Tensor, c: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    (batch, length, _), hidden = x.shape, h.shape[1]
    gates = x.new_empty(batch, length, 4 * hidden)
    return gates, x.new_empty(batch, length, hidden), x.new_empty(batch, length, hidden)


def _sizes(
    x: Tensor, tiles: Tensor, bias: Tensor, h: Tensor, c: Tensor, reverse: bool
) -> dict[str, int]:
    (batch, length, n_in), hidden = x.shape, h.shape[1]
    return {
        "batch": batch, "length": length, "n_in": n_in, "hidden": hidden, "reverse": reverse,
        "threads": threads_for(batch),
    }  # fmt: skip


def _like_backward(
    g: Tensor, tiles: Tensor, cs: Tensor, c: Tensor, dh: Tensor, dc: Tensor, gates: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    batch, _, hidden = g.shape
    return torch.empty_like(dc), g.new_empty(threads_for(batch), 4 * hidden)


def _sizes_backward(
    g: Tensor, tiles: Tensor, cs: Tensor, c: Tensor, dh: Tensor, dc: Tensor, gates: Tensor,
    reverse: bool,
) -> dict[str, int]:  # fmt: skip
    batch, length, hidden = g.shape
    return {
        "batch": batch, "length": length, "hidden": hidden, "reverse": reverse,
        "threads": threads_for(batch),
    }  # fmt: skip


_forward: Final[Callable[..., tuple[Tensor, Tensor, Tensor]]] = cpp_kernel(
    "lstm_steps(Tensor x, Tensor tiles, Tensor bias, Tensor h, Tensor c, bool reverse)"
    " -> (Tensor, Tensor, Tensor)",
    __file__,
    _like,
    _sizes,
)
_backward: Final[Callable[..., tuple[Tensor, Tensor]]] = cpp_kernel(
    "lstm_steps_backward(Tensor g, Tensor tiles, Tensor cs, Tensor c, Tensor dh, Tensor dc,"
    " Tensor(a!) gates, bool reverse) -> (Tensor, Tensor)",
    __file__,
    _like_backward,
    _sizes_backward,
)
