"""A sequence of long short-term memory in a compiled step, by C++ kernels.

The kernels compute the steps one by one (kernels/lstm/op.py). The rest takes one matrix product
each, of all da_t:

    dx = da W_ih^T    dW = sum over t of [x_t h_{t-1}]^T da_t    db = sum of da,

where W is W_ih on top of W_hh. Eager steps call oneDNN's kernel instead; with it, the compiled step
of char-lstm took 1.38 of the time, on a Zen 5.
"""

from __future__ import annotations

from operator import getitem
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.cpp_kernel import are_called_for
from lincoln_fn.compiler.kernels.lstm.op import steps, steps_backward
from lincoln_fn.compiler.passes.products import product

lincoln = torch.ops.lincoln_fn

Tensors: TypeAlias = tuple[Tensor, ...]

# A W of up to so many numbers stays in a core's own cache from step to step.
_MOST: Final = 2**19
# The largest number of vectors of units in a tile of the backward pass.
_TILE: Final = 4
# Which of the operation's results is what it saves for `backward`.
_SAVED: Final = 3


def rewrite(graph: GraphModule) -> None:
    """Replace oneDNN's kernel where ours support the layer."""
    forwards, backwards = lincoln.lstm.default, lincoln.lstm_backward.default
    for node in graph.graph.find_nodes(op="call_function", target=forwards):
        saved = [user for user in node.users if user.target is getitem and user.args[1] == _SAVED]
        readers = [user for one in saved for user in one.users]
        # Only one backward pass: it replaces the gates by their gradients.
        if _supports(node) and [user.target for user in readers] in ([], [backwards]):
            node.target = forward
            for user in readers:
                user.target = backward
    graph.recompile()


def forward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensors]:  # fmt: skip
    """Compute what oneDNN's kernel does, as fastpath/lstm.py documents it."""
    # The gates and every c, for `backward`, take the place of oneDNN's workspace.
    last = 0 if reverse else -1
    tiles = torch.cat([w_ih, w_hh]).view(-1, 4, len(w_hh) // lanes(), lanes()).permute(2, 0, 1, 3)
    given = (t.contiguous() for t in (x.transpose(0, 1), tiles, b_ih + b_hh, h, c))
    gates, cs, y = steps(*given, reverse)
    return y.transpose(0, 1), y[:, last], cs[:, last], (gates, cs)


def backward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    y: Tensor, last_h: Tensor, last_c: Tensor, g: Tensor, dh: Tensor, dc: Tensor,
    reverse: bool, saved: Tensors,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Compute what oneDNN's backward kernel does; the saved gates are updated in place."""
    # Returns dx (length, batch, n_in), dW_ih and dW_hh transposed, db, and dL/dh and dL/dc for the
    # first state.
    first, (gates, cs), made = -1 if reverse else 0, saved, y.transpose(0, 1)
    tile = max(n for n in range(1, _TILE + 1) if len(w_hh) % (n * lanes()) == 0) * lanes()
    tiles = w_hh.reshape(-1, tile, gates.shape[2]).mT
    given = (t.contiguous() for t in (g, tiles, cs, c, dh, dc))
    first_dc, sums = steps_backward(*given, gates, reverse)
    da = gates.flatten(0, 1)
    # The h that each step began with.
    hs = torch.cat((made[:, 1:], h[:, None]) if reverse else (h[:, None], made[:, :-1]), 1)
    before = torch.cat([x.transpose(0, 1), hs], 2).flatten(0, 1)
    dx = product(da, w_ih.contiguous().mT).view(*gates.shape[:2], -1).transpose(0, 1)
    dw = product(before.mT.contiguous(), da)
    of_x, of_h = dw[: len(w_ih)].mT, dw[len(w_ih) :].mT
    return dx, of_x, of_h, sums.sum(0), gates[:, first] @ w_hh.mT, first_dc


def _supports(node: Node) -> bool:
    """Return whether a hidden state fills its vectors, W is small, and there are several rows."""
    given: Any = node.args[:3]  # Any: torch's type for an argument is a union
    x, w_ih, w_hh = (arg.meta["val"] for arg in given)
    is_whole = are_called_for(x) and len(w_hh) % lanes() == 0
    return is_whole and w_ih.numel() + w_hh.numel() <= _MOST and x.shape[1] > 1
