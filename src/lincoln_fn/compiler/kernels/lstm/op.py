"""The steps of long short-term memory, forward and backward, by C++ kernels.

With i, f, g, o the gates of step t, of which layers/lstm.py derives the gradients da_t from dh_t,

    [i f g o]_t = gates of (x_t W_ih + h_{t-1} W_hh + b),
    dh_{t-1}    = g_{t-1} + da_t W_hh^T.

A tile of sums over W stays in registers until the gates' functions have been applied. W is divided
into tiles once for all steps. Each thread computes its own examples, and waits for no other thread.
The backward pass replaces the gates by their gradients, in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.compiler.inductor.threads import threads_for
from lincoln_fn.compiler.kernels.cpp_kernel import Plan, cpp_kernel


def _plan(x: Tensor, tiles: Tensor, bias: Tensor, h: Tensor, c: Tensor, reverse: bool) -> Plan:
    (batch, length, n_in), hidden = x.shape, h.shape[1]
    gates, cs = x.new_empty(batch, length, 4 * hidden), x.new_empty(batch, length, hidden)
    sizes = {"batch": batch, "length": length, "n_in": n_in, "hidden": hidden, "reverse": reverse}
    return (gates, cs, torch.empty_like(cs)), {**sizes, "threads": threads_for(batch)}


def _plan_backward(
    g: Tensor, tiles: Tensor, cs: Tensor, c: Tensor, dh: Tensor, dc: Tensor, gates: Tensor,
    reverse: bool,
) -> Plan:  # fmt: skip
    (batch, length, hidden), threads = g.shape, threads_for(len(g))
    sizes = {"batch": batch, "length": length, "hidden": hidden, "reverse": reverse}
    sums = g.new_empty(threads, 4 * hidden)
    return (torch.empty_like(dc), sums), {**sizes, "threads": threads}


# Gates, every c, and y; the shapes are those of lstm_steps.cpp.
steps: Final[Callable[..., tuple[Tensor, Tensor, Tensor]]] = cpp_kernel(
    "lstm_steps(Tensor x, Tensor tiles, Tensor bias, Tensor h, Tensor c, bool reverse)"
    " -> (Tensor, Tensor, Tensor)",
    __file__,
    _plan,
)
# dL/dc of the first state, and each thread's sums of the gates' gradients.
steps_backward: Final[Callable[..., tuple[Tensor, Tensor]]] = cpp_kernel(
    "lstm_steps_backward(Tensor g, Tensor tiles, Tensor cs, Tensor c, Tensor dh, Tensor dc,"
    " Tensor(a!) gates, bool reverse) -> (Tensor, Tensor)",
    __file__,
    _plan_backward,
)
