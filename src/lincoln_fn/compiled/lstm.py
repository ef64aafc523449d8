"""A sequence of long short-term memory in a compiled step, by loops of its own.

With i, f, g, o the gates of step t, of which layers/lstm.py derives the gradients da_t from dh_t,

    [i f g o]_t = gates of (x_t W_ih + h_{t-1} W_hh + b_ih + b_hh),
    dh_{t-1}    = g_{t-1} + da_t W_hh^T

have to be taken step by step, and what follows of all da_t is a matrix product for each:

    dx = da W_ih^T    dW = sum over t of [x_t h_{t-1}]^T da_t    db = sum of da,

W being W_ih above W_hh.

The steps are in lstm_forward.cpp and lstm_backward.cpp: a tile of sums over W stays in registers
until the gates' functions have been applied, W is laid out by tiles once for all steps, and each
thread has examples of its own, for which it waits for no other. On the way back the gates are
written over by their gradients. A training step takes a tenth to a sixth less time so than with
oneDNN's kernel, which is eager steps', and less than half of the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import getitem
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiled.kernels import named
from lincoln_fn.compiled.loops import built, lanes
from lincoln_fn.compiled.products import product

Tensors: TypeAlias = tuple[Tensor, ...]

lincoln = torch.ops.lincoln_fn

# Of both loops: eight tensors, the batch's size, and how many threads.
_ARGUMENTS: Final = (*["float*"] * 8, "int64_t", "int64_t")
# Vectors of units in a tile on the way back, at most.
_TILE: Final = 4
# Numbers in W up to which it stays in a core's own cache from step to step.
_MOST: Final = 2**19
# Which of the operation's results is its notes.
_NOTES: Final = 3


def rewrite(graph: GraphModule) -> None:
    """Put the loops in the place of oneDNN's kernel, where they suit.

    Args:
        graph: a traced step, which is changed.
    """
    forwards, backwards = lincoln.lstm.default, lincoln.lstm_backward.default
    for node in graph.graph.find_nodes(op="call_function", target=forwards):
        notes = [user for user in node.users if user.target is getitem and user.args[1] == _NOTES]
        readers = [user for note in notes for user in note.users]
        # One alone, for the gates go out as their gradients.
        if _suits(node) and [user.target for user in readers] in ([], [backwards]):
            node.target = forward
            for user in readers:
                user.target = backward
    graph.recompile()


def forward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensors]:  # fmt: skip
    """Compute what oneDNN's kernel does.

    Args:
        x: the sequence (length, batch, n_in).
        w_ih: of shape (n_in, 4 hidden).
        w_hh: of shape (hidden, 4 hidden).
        b_ih: of shape (4 hidden,).
        b_hh: likewise.
        h: the first state (batch, hidden).
        c: likewise.
        reverse: whether to go from the end to the beginning.

    Returns:
        y (length, batch, hidden), the last h and c, and for `backward` the gates and every c.
    """
    last = 0 if reverse else -1
    tiles = torch.cat([w_ih, w_hh]).view(-1, 4, len(w_hh) // lanes(), lanes()).permute(2, 0, 1, 3)
    given = (t.contiguous() for t in (x.transpose(0, 1), tiles, b_ih + b_hh, h, c))
    gates, cs, y = _forward(*given, reverse)
    return y.transpose(0, 1), y[:, last], cs[:, last], (gates, cs)


def backward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    y: Tensor, last_h: Tensor, last_c: Tensor, g: Tensor, dh: Tensor, dc: Tensor,
    reverse: bool, notes: Tensors,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Compute what oneDNN's kernel does on the way back.

    Args:
        x: as `forward` took it.
        w_ih: likewise.
        w_hh: likewise.
        b_ih: likewise; not used.
        b_hh: likewise; not used.
        h: likewise.
        c: likewise.
        y: as `forward` returned it.
        last_h: likewise; not used.
        last_c: likewise; not used.
        g: dL/dy (batch, length, hidden).
        dh: dL/dh for the last state.
        dc: likewise.
        reverse: as `forward` took it.
        notes: as `forward` returned them; written over.

    Returns:
        dx (length, batch, n_in), dW_ih and dW_hh transposed, db, and dL/dh and dL/dc for the first
        state.
    """
    hidden, first, (gates, cs) = len(w_hh), -1 if reverse else 0, notes
    tile = max(n for n in range(1, _TILE + 1) if hidden % (n * lanes()) == 0) * lanes()
    given = (t.contiguous() for t in (g, w_hh.reshape(-1, tile, 4 * hidden).mT, cs, c, dh, dc))
    first_dc, db = _backward(*given, gates, reverse)
    da, steps, before = gates.flatten(0, 1), x.transpose(0, 1), y.transpose(0, 1)
    # The x and the h that each step began with.
    parts = (before[:, 1:], h[:, None]) if reverse else (h[:, None], before[:, :-1])
    begun = torch.cat([steps, torch.cat(parts, 1)], 2).flatten(0, 1)
    dx = product(da, w_ih.contiguous().mT).view(steps.shape).transpose(0, 1)
    dw = product(begun.mT.contiguous(), da)
    dw_ih, dw_hh = dw[: len(w_ih)], dw[len(w_ih) :]
    return dx, dw_ih.mT, dw_hh.mT, db, gates[:, first] @ w_hh.mT, first_dc


def _run(
    x: Tensor, tiles: Tensor, bias: Tensor, h: Tensor, c: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    gates, cs, y = _like(x, tiles, bias, h, c, reverse)
    (batch, length, n_in), hidden = x.shape, h.shape[1]
    loop = built(
        "lstm_forward", _ARGUMENTS, length=length, n_in=n_in, hidden=hidden, reverse=reverse
    )
    given = (tensor.contiguous() for tensor in (x, tiles, bias, h, c))
    loop(*given, gates, cs, y, batch, min(torch.get_num_threads(), batch))
    return gates, cs, y


def _like(
    x: Tensor, tiles: Tensor, bias: Tensor, h: Tensor, c: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    (batch, length, _), hidden = x.shape, h.shape[1]
    gates = x.new_empty(batch, length, 4 * hidden)
    return gates, x.new_empty(batch, length, hidden), x.new_empty(batch, length, hidden)


def _run_backward(
    g: Tensor, tiles: Tensor, cs: Tensor, c: Tensor, dh: Tensor, dc: Tensor, gates: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    batch, length, hidden = g.shape
    loop = built("lstm_backward", _ARGUMENTS, length=length, hidden=hidden, reverse=reverse)
    threads = min(torch.get_num_threads(), batch)
    given = (tensor.contiguous() for tensor in (g, tiles, cs, c, dh))
    first_dc, db = dc.clone(memory_format=torch.contiguous_format), g.new_zeros(threads, 4 * hidden)
    loop(*given, first_dc, gates, db, batch, threads)
    return first_dc, db.sum(0)


def _like_backward(
    g: Tensor, tiles: Tensor, cs: Tensor, c: Tensor, dh: Tensor, dc: Tensor, gates: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return torch.empty_like(dc), dc.new_empty(4 * dc.shape[1])


_forward: Final[Callable[..., tuple[Tensor, Tensor, Tensor]]] = named(
    "lstm_steps(Tensor x, Tensor tiles, Tensor bias, Tensor h, Tensor c, bool reverse) "
    "-> (Tensor, Tensor, Tensor)",
    _run,
    _like,
)
_backward: Final[Callable[..., tuple[Tensor, Tensor]]] = named(
    "lstm_steps_backward(Tensor g, Tensor tiles, Tensor cs, Tensor c, Tensor dh, Tensor dc, "
    "Tensor(a!) gates, bool reverse) -> (Tensor, Tensor)",
    _run_backward,
    _like_backward,
)


def _suits(node: Node) -> bool:
    """Tell whether a hidden state fills its vectors, W is small, and there is more than a row."""
    given: Any = node.args[:3]  # Any: torch's type for an argument is a union
    x, w_ih, w_hh = (arg.meta["val"] for arg in given)
    is_whole = lanes() > 0 and len(w_hh) % lanes() == 0
    return is_whole and w_ih.numel() + w_hh.numel() <= _MOST and x.shape[1] > 1
