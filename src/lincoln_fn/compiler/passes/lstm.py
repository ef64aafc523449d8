"""A sequence of long short-term memory in a compiled step, by C++ kernels.

The kernels compute the steps one by one, as kernels/lstm/op.py says. The rest is one matrix product
each of all da_t:

    dx = da W_ih^T    dW = sum over t of [x_t h_{t-1}]^T da_t    db = sum of da,

where W is W_ih above W_hh. Eager steps call oneDNN's kernel instead; with it, the compiled step of
char-lstm took 1.38 of the time, on a Zen 5.
"""

from __future__ import annotations

from operator import getitem
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.lstm.op import Tensors, previous_h, steps_backward, take_steps
from lincoln_fn.compiler.passes.products import product

lincoln = torch.ops.lincoln_fn

# Numbers in W up to which it stays in a core's own cache from step to step.
_MOST: Final = 2**19
# Which of the operation's results is what it saves for `backward`.
_SAVED: Final = 3


def rewrite(graph: GraphModule) -> None:
    """Replace oneDNN's kernel where ours support the layer."""
    forwards, backwards = lincoln.lstm.default, lincoln.lstm_backward.default
    for node in graph.graph.find_nodes(op="call_function", target=forwards):
        saved = [user for user in node.users if user.target is getitem and user.args[1] == _SAVED]
        readers = [user for one in saved for user in one.users]
        # One alone, for the gates go out as their gradients.
        if _supports(node) and [user.target for user in readers] in ([], [backwards]):
            node.target = forward
            for user in readers:
                user.target = backward
    graph.recompile()


def forward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensors]:  # fmt: skip
    """Compute what oneDNN's kernel does, as fastpath/lstm.py documents it.

    In place of oneDNN's workspace stand the gates and every c, for `backward`.
    """
    weight = torch.cat([w_ih, w_hh])
    return take_steps(x.transpose(0, 1), weight, b_ih + b_hh, h, c, reverse)


def backward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    y: Tensor, last_h: Tensor, last_c: Tensor, g: Tensor, dh: Tensor, dc: Tensor,
    reverse: bool, saved: Tensors,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Compute what oneDNN's backward kernel does; the saved gates are updated in place.

    Returns dx (length, batch, n_in), dW_ih and dW_hh transposed, db, and dL/dh and dL/dc for the
    first state.
    """
    steps = x.transpose(0, 1)
    da, db, first_dh, first_dc = steps_backward(w_hh, c, g, dh, dc, reverse, saved)
    before = torch.cat([steps, previous_h(h, y, reverse)], 2).flatten(0, 1)
    dx = product(da, w_ih.contiguous().mT).view(steps.shape).transpose(0, 1)
    dw = product(before.mT.contiguous(), da)
    return dx, dw[: len(w_ih)].mT, dw[len(w_ih) :].mT, db, first_dh, first_dc


def _supports(node: Node) -> bool:
    """Tell whether a hidden state fills its vectors, W is small, and there is more than a row."""
    given: Any = node.args[:3]  # Any: torch's type for an argument is a union
    x, w_ih, w_hh = (arg.meta["val"] for arg in given)
    is_whole = lanes() > 0 and len(w_hh) % lanes() == 0
    return is_whole and w_ih.numel() + w_hh.numel() <= _MOST and x.shape[1] > 1
