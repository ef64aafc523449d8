"""A whole sequence of lstm by oneDNN, through ATen's own operations.

It computes what `layers/common/scan.py` does with the step of `layers/lstm.py`. oneDNN applies the
gates' functions to the sums that a matrix product has just computed, and it reorders the matrices
once for all steps. It supports float32 on the CPU, and no mask.

Forward and backward take 0.4 to 0.6 of the formula's time for 64 x 28 x 28 to 128 x 20 x 256
(batch, length, n_in) and 128 to 512 features of a state. Measured on a Zen 5, with one thread.

In a traced step it is two operations of this library, as `linear_scan.py` says of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from lincoln_fn.core import Arrays, evolve, record, static
from lincoln_fn.fastpath import product
from lincoln_fn.fastpath.twin import Twin, unless_transformed
from lincoln_fn.layers import lstm
from lincoln_fn.layers.common.recurrent import Cache, run, run_backward
from lincoln_fn.layers.common.scan import Cell, Rule, ScanCache, Tensors, scan, scan_backward
from lincoln_fn.runtime import operation, runs_here

Run: TypeAlias = Callable[..., tuple[Tensor, ...]]

# ATen's arguments: mode, number of layers, and whether there are biases and two directions.
_LSTM: Final = 2
_FORM: Final = (1, True, False)


@record
class KernelCache:
    """What the kernel took and returned, and oneDNN's workspace."""

    # oneDNN's backward writes to a part of the workspace that no result depends on. Two calls at
    # the same time must not share it.

    x: Float[Tensor, "length batch n_in"]
    first: tuple[Tensor, Tensor]
    y: Float[Tensor, "length batch hidden"]
    last: tuple[Tensor, Tensor]
    workspace: UInt8[Tensor, " n"]
    reverse: bool = static()


def forward(params: lstm.Params, x: Arrays, *, batch_first: bool = True) -> tuple[Arrays, Cache]:
    """Compute what `layers.lstm.forward` does."""
    return run(lstm.FAMILY, params, x, batch_first, _scan)


def backward(params: lstm.Params, cache: Cache, g: Arrays) -> tuple[Arrays, lstm.Params]:
    """Compute what `layers.lstm.backward` does."""
    return run_backward("lstm", params, cache, g, _scan_backward)


def supports(x: Tensor) -> bool:
    """Return whether oneDNN supports a sequence: float32 on the CPU, not empty, not exported."""
    is_plain = x.device.type == "cpu" and runs_here(x)
    has_kernel = product.BACKENDS.mkldnn.is_available()
    return bool(has_kernel and x.dtype is torch.float32 and is_plain and x.numel() > 0)


@unless_transformed(scan)
def _scan(
    rule: Rule, cell: Cell, x: Tensor, state: Tensors, mask: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensors, ScanCache | KernelCache]:
    """Compute what `scan` does, by the kernel if it supports the sequence."""
    if mask is not None or not supports(x):
        return scan(rule, cell, x, state, mask, reverse)
    h, c = state
    steps = x.transpose(0, 1).contiguous()
    run = in_graph if isinstance(x, FakeTensor) else _run
    y, last_h, last_c, workspace = run(steps, *_with_biases(cell), h, c, reverse)
    last = (last_h.view_as(h), last_c.view_as(c))
    return y.transpose(0, 1), last, KernelCache(steps, (h, c), y, last, workspace, reverse)


def _remade(rule: Rule, cell: Cell, cache: KernelCache, *_: object) -> ScanCache:
    return scan(rule, cell, cache.x.transpose(0, 1), cache.first, None, cache.reverse)[2]


@unless_transformed(scan_backward, KernelCache, _remade)
def _scan_backward(
    rule: Rule, cell: Cell, cache: KernelCache, g: Tensor, ds: Tensors
) -> tuple[Tensor, Cell, Tensors]:
    run: Run = in_graph_backward if isinstance(g, FakeTensor) else _run_backward
    dx, dw_ih, dw_hh, db, dh, dc = run(
        cache.x, *_with_biases(cell), *cache.first, cache.y, *cache.last, g, *ds,
        cache.reverse, cache.workspace,
    )  # fmt: skip
    # Both biases are added to the same sum. They are two tensors: a leaf must not occur twice.
    db_ih = None if cell.bias_ih is None else db
    db_hh = None if cell.bias_hh is None else db.clone()
    return dx.transpose(0, 1), Cell(dw_ih.mT, dw_hh.mT, db_ih, db_hh), (dh, dc)


def to_formula_cache(params: lstm.Params, cache: Cache) -> Cache:
    """Compute the gates by the formula's steps: oneDNN does not return them."""

    def remade(cell: Cell, of_scan: KernelCache | ScanCache) -> ScanCache:
        if isinstance(of_scan, ScanCache):
            return of_scan
        return _remade(lstm.FAMILY.rule, cell, of_scan)

    pairs = zip(params.cells, cache.scans, strict=True)
    return evolve(cache, scans=tuple(tuple(map(remade, *pair)) for pair in pairs))


def _run(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    # It keeps a workspace for the backward pass only if autograd may need one.
    with torch.enable_grad():
        made: tuple[Tensor, ...] = torch.ops.aten.mkldnn_rnn_layer(
            x.contiguous(), _by_gate(w_ih), _by_gate(w_hh), b_ih, b_hh, h.contiguous(),
            c.contiguous(), reverse, [], _LSTM, len(w_hh), *_FORM, False, True,
        )  # fmt: skip
    return made if torch.is_grad_enabled() else tuple(tensor.detach() for tensor in made)


def _run_backward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    y: Tensor, last_h: Tensor, last_c: Tensor, g: Tensor, dh: Tensor, dc: Tensor,
    reverse: bool, workspace: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    layers, has_biases, is_bidirectional = _FORM
    dx, dw_ih, dw_hh, db, _, dh, dc = torch.ops.aten.mkldnn_rnn_layer_backward(
        x.contiguous(), _by_gate(w_ih), _by_gate(w_hh), b_ih, b_hh, h.contiguous(),
        c.contiguous(), y, last_h, last_c, g.transpose(0, 1), dh, dc, reverse,
        _LSTM, len(w_hh), layers, has_biases, True, is_bidirectional, [], False, workspace,
    )  # fmt: skip
    return dx, dw_ih, dw_hh, db, dh, dc


def _by_gate(weight: Tensor) -> Tensor:
    """Copy a matrix to torch's layout in memory, which the kernel expects."""
    return weight.mT.contiguous()


def _with_biases(cell: Cell) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    none = cell.weight_hh.new_zeros(cell.weight_hh.shape[1])
    b_ih, b_hh = (none if b is None else b for b in (cell.bias_ih, cell.bias_hh))
    return cell.weight_ih, cell.weight_hh, b_ih, b_hh


_CELL: Final = "Tensor x, Tensor w_ih, Tensor w_hh, Tensor b_ih, Tensor b_hh, Tensor h, Tensor c"
in_graph: Final[Run] = operation(
    f"lstm({_CELL}, bool reverse) -> (Tensor, Tensor, Tensor, Tensor)", _run, any_strides=True
)
in_graph_backward: Final[Run] = operation(
    f"lstm_backward({_CELL}, Tensor y, Tensor last_h, Tensor last_c, Tensor g, Tensor dh, "
    "Tensor dc, bool reverse, Tensor workspace) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _run_backward,
    any_strides=True,
)

TWINS: Final = (Twin(lstm, forward, backward, to_formula_cache=to_formula_cache),)
