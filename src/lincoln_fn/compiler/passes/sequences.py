"""Sequences in a compiled step, one step after the other, by C++ kernels.

**A linear scan**, h_t = a_t h_(t-1) + b_t. The kernel reads and writes each number once. Each
thread computes its own examples.

**Long short-term memory.** With i, f, g, o the gates of step t, of which layers/lstm.py derives the
gradients da_t from dh_t, the kernels compute the steps one by one:

    [i f g o]_t = gates of (x_t W_ih + h_{t-1} W_hh + b),
    dh_{t-1}    = g_{t-1} + da_t W_hh^T.

A tile of sums over W stays in registers until the gates' functions have been applied. W is divided
into tiles once for all steps. Each thread computes its own examples, and waits for no other. The
gates' gradients replace the gates in place. The rest takes one matrix product each, of all da_t:

    dx = da W_ih^T    dW = sum over t of [x_t h_{t-1}]^T da_t    db = sum of da,

where W is W_ih on top of W_hh. Eager steps call oneDNN's kernel instead; with it, the compiled step
of char-lstm took 1.38 of the time, on a Zen 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import getitem
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.fx import Node

from lincoln_fn.compiler.cpp_kernel import Plan, are_called_for, cpp_kernel
from lincoln_fn.compiler.inductor.settings import lanes, threads_for
from lincoln_fn.compiler.passes.products import product
from lincoln_fn.compiler.passes.rewriting import by_rules, tensors_of
from lincoln_fn.fastpath import linear_scan, lstm

Tensors: TypeAlias = tuple[Tensor, ...]

# A W of up to so many numbers stays in a core's own cache from step to step.
_MOST: Final = 2**19
# The largest number of vectors of units in a tile of the backward pass.
_TILE: Final = 4
# Which of the operation's results is what it saves for the backward pass.
_SAVED: Final = 3


def _plan_lstm(x: Tensor, tiles: Tensor, bias: Tensor, h: Tensor, c: Tensor, reverse: bool) -> Plan:
    (batch, length, n_in), hidden = x.shape, h.shape[1]
    gates, cs = x.new_empty(batch, length, 4 * hidden), x.new_empty(batch, length, hidden)
    sizes = {"batch": batch, "length": length, "n_in": n_in, "hidden": hidden, "reverse": reverse}
    return (gates, cs, torch.empty_like(cs)), {**sizes, "threads": threads_for(batch)}


def _plan_lstm_backward(
    g: Tensor, tiles: Tensor, cs: Tensor, c: Tensor, dh: Tensor, dc: Tensor, gates: Tensor,
    reverse: bool,
) -> Plan:  # fmt: skip
    (batch, length, hidden), threads = g.shape, threads_for(len(g))
    sizes = {"batch": batch, "length": length, "hidden": hidden, "reverse": reverse}
    sums = g.new_empty(threads, 4 * hidden)
    return (torch.empty_like(dc), sums), {**sizes, "threads": threads}


# Gates, every c, and y; the shapes are those of lstm_steps.cpp.
_lstm_steps: Final[Callable[..., tuple[Tensor, Tensor, Tensor]]] = cpp_kernel(
    "lstm_steps(Tensor x, Tensor tiles, Tensor bias, Tensor h, Tensor c, bool reverse)"
    " -> (Tensor, Tensor, Tensor)",
    _plan_lstm,
)
# dL/dc of the first state, and each thread's sums of the gates' gradients.
_lstm_steps_backward: Final[Callable[..., tuple[Tensor, Tensor]]] = cpp_kernel(
    "lstm_steps_backward(Tensor g, Tensor tiles, Tensor cs, Tensor c, Tensor dh, Tensor dc,"
    " Tensor(a!) gates, bool reverse) -> (Tensor, Tensor)",
    _plan_lstm_backward,
)


def lstm_forward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensors]:  # fmt: skip
    """Compute what oneDNN's kernel does, as fastpath/lstm.py documents it."""
    # The gates and every c, for the way back, take the place of oneDNN's workspace.
    last = 0 if reverse else -1
    tiles = torch.cat([w_ih, w_hh]).view(-1, 4, len(w_hh) // lanes(), lanes()).permute(2, 0, 1, 3)
    arguments = (t.contiguous() for t in (x.transpose(0, 1), tiles, b_ih + b_hh, h, c))
    gates, cs, y = _lstm_steps(*arguments, reverse)
    return y.transpose(0, 1), y[:, last], cs[:, last], (gates, cs)


def lstm_backward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    y: Tensor, last_h: Tensor, last_c: Tensor, g: Tensor, dh: Tensor, dc: Tensor,
    reverse: bool, saved: Tensors,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Compute what oneDNN's backward kernel does; the saved gates are updated in place."""
    # Returns dx (length, batch, n_in), dW_ih and dW_hh transposed, db, and dL/dh and dL/dc for the
    # first state.
    first, (gates, cs), outputs = -1 if reverse else 0, saved, y.transpose(0, 1)
    tile = max(n for n in range(1, _TILE + 1) if len(w_hh) % (n * lanes()) == 0) * lanes()
    tiles = w_hh.reshape(-1, tile, gates.shape[2]).mT
    arguments = (t.contiguous() for t in (g, tiles, cs, c, dh, dc))
    first_dc, sums = _lstm_steps_backward(*arguments, gates, reverse)
    da = gates.flatten(0, 1)
    # The h that each step began with.
    hs = torch.cat((outputs[:, 1:], h[:, None]) if reverse else (h[:, None], outputs[:, :-1]), 1)
    before = torch.cat([x.transpose(0, 1), hs], 2).flatten(0, 1)
    dx = product(da, w_ih.contiguous().mT).view(*gates.shape[:2], -1).transpose(0, 1)
    dw = product(before.mT.contiguous(), da)
    of_x, of_h = dw[: len(w_ih)].mT, dw[len(w_ih) :].mT
    return dx, of_x, of_h, sums.sum(0), gates[:, first] @ w_hh.mT, first_dc


def _supports_lstm(node: Node) -> bool:
    """Return whether a hidden state fills its vectors, W is small, and there are several rows."""
    x, w_ih, w_hh, *_ = tensors_of(node)
    is_whole = are_called_for(x) and len(w_hh) % lanes() == 0
    return is_whole and w_ih.numel() + w_hh.numel() <= _MOST and x.shape[1] > 1


def _replace_lstm(node: Node) -> None:
    saved = [user for user in node.users if user.target is getitem and user.args[1] == _SAVED]
    readers = [user for one in saved for user in one.users]
    # Only one backward pass: it replaces the gates by their gradients.
    if _supports_lstm(node) and [user.target for user in readers] in ([], [lstm.in_graph_backward]):
        node.target = lstm_forward
        for user in readers:
            user.target = lstm_backward


def _plan_scan(a: Tensor, b: Tensor, first: Tensor, reverse: bool) -> Plan:
    batch, length, features = b.shape
    sizes = {"batch": batch, "length": length, "features": features, "reverse": reverse}
    return (torch.empty_like(b),), {**sizes, "threads": threads_for(batch)}


# a and b are (batch, length, features), and first (batch, features).
_scan_steps: Final[Callable[[Tensor, Tensor, Tensor, bool], Tensor]] = cpp_kernel(
    "linear_scan_steps(Tensor a, Tensor b, Tensor first, bool reverse) -> Tensor", _plan_scan
)


def scan_by_kernel(a: Tensor, b: Tensor, first: Tensor, chunk_size: int, reverse: bool) -> Tensor:
    """Compute what the operation does, as fastpath/linear_scan.py documents it."""
    batch, length, features = *b.shape[:2], math.prod(b.shape[2:])
    factors, added = (x.reshape(batch, length, features).contiguous() for x in (a, b))
    start = first.reshape(batch, features).contiguous()
    return _scan_steps(factors, added, start, reverse).view(b.shape)


def _replace_scan(node: Node) -> None:
    if are_called_for(tensors_of(node)[1]):
        node.target = scan_by_kernel


rewrite: Final = by_rules({lstm.in_graph: _replace_lstm, linear_scan.in_graph: _replace_scan})
