"""A whole sequence of lstm by oneDNN, through ATen's own operations.

It computes what `layers/_scan.py` does with the step of `layers/lstm.py`. oneDNN applies the gates'
functions to what a matrix product has just computed, and lays the matrices out for the products
once for all steps. It knows float32 on the CPU, and no mask. Measured: see `recurrent.py`.

A traced step has two operations of this library's own for it, which only this process knows, and
for which a compiled step may have loops (`compiled/lstm.py`); in an exported step the cells' own
operations stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.library import Library

from lincoln_fn.fastpath._traced import runs_here
from lincoln_fn.layers._scan import Cell, Tensors
from lincoln_fn.record import record, static

Run: TypeAlias = Callable[..., tuple[Tensor, ...]]

# ATen's number of this kind of cell.
_LSTM = 2


@record
class KernelCache:
    """What the kernel took and returned, and oneDNN's workspace.

    oneDNN's backward writes into a part of the workspace that no result depends on. Two calls at
    one time must not share it.
    """

    x: Float[Tensor, "length batch n_in"]
    first: tuple[Tensor, Tensor]
    y: Float[Tensor, "length batch hidden"]
    last: tuple[Tensor, Tensor]
    workspace: UInt8[Tensor, " n"]
    reverse: bool = static()


def supports(x: Tensor) -> bool:
    """Return whether oneDNN can take a sequence: float32 on the CPU, not empty, not exported.

    Example:
        >>> supports(torch.zeros(2, 5, 3)), supports(torch.zeros(2, 5, 3).double())
        (True, False)
    """
    is_plain = x.device.type == "cpu" and runs_here(x)
    has_kernel = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch's
    return bool(has_kernel and x.dtype is torch.float32 and is_plain and x.numel() > 0)


def forward(
    cell: Cell, x: Float[Tensor, "batch length n_in"], state: Tensors, reverse: bool
) -> tuple[Float[Tensor, "batch length hidden"], Tensors, KernelCache]:
    """Compute what `scan` does: the outputs, the last state and the cache."""
    h, c = state
    steps = x.transpose(0, 1).contiguous()
    run: Run = torch.ops.lincoln_fn.lstm if isinstance(x, FakeTensor) else _run
    y, last_h, last_c, workspace = run(steps, *_with_biases(cell), h, c, reverse)
    last = (last_h.view_as(h), last_c.view_as(c))
    return y.transpose(0, 1), last, KernelCache(steps, (h, c), y, last, workspace, reverse)


def backward(
    cell: Cell, cache: KernelCache, g: Float[Tensor, "batch length hidden"], dstate: Tensors
) -> tuple[Float[Tensor, "batch length n_in"], Cell, Tensors]:
    """Compute what `scan_backward` does: dx, the cell's gradients, that of the first state."""
    traced = isinstance(g, FakeTensor)
    run: Run = torch.ops.lincoln_fn.lstm_backward if traced else _run_backward
    dx, dw_ih, dw_hh, db, dh, dc = run(
        cache.x, *_with_biases(cell), *cache.first, cache.y, *cache.last, g, *dstate,
        cache.reverse, cache.workspace,
    )  # fmt: skip
    # Both biases are added to the same sum. Two tensors, for one leaf must not stand in two places.
    db_ih = None if cell.bias_ih is None else db
    db_hh = None if cell.bias_hh is None else db.clone()
    return dx.transpose(0, 1), Cell(dw_ih.mT, dw_hh.mT, db_ih, db_hh), (dh, dc)


def _run(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    # It keeps a workspace for a backward pass only where autograd might want one.
    with torch.enable_grad():
        made: tuple[Tensor, ...] = torch.ops.aten.mkldnn_rnn_layer(
            x.contiguous(), _by_gate(w_ih), _by_gate(w_hh), b_ih, b_hh, h.contiguous(),
            c.contiguous(), reverse, [], *_form(w_hh), False, True,
        )  # fmt: skip
    return made if torch.is_grad_enabled() else tuple(tensor.detach() for tensor in made)


def _run_backward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor,
    y: Tensor, last_h: Tensor, last_c: Tensor, g: Tensor, dh: Tensor, dc: Tensor,
    reverse: bool, workspace: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    mode, hidden, layers, biases, bidirectional = _form(w_hh)
    dx, dw_ih, dw_hh, db, _, dh, dc = torch.ops.aten.mkldnn_rnn_layer_backward(
        x.contiguous(), _by_gate(w_ih), _by_gate(w_hh), b_ih, b_hh, h.contiguous(),
        c.contiguous(), y, last_h, last_c, g.transpose(0, 1), dh, dc, reverse,
        mode, hidden, layers, biases, True, bidirectional, [], False, workspace,
    )  # fmt: skip
    return dx, dw_ih, dw_hh, db, dh, dc


def _by_gate(weight: Tensor) -> Tensor:
    """Give a matrix torch's layout in memory, which the kernel expects."""
    return weight.mT.contiguous()


def _with_biases(cell: Cell) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    none = cell.weight_hh.new_zeros(cell.weight_hh.shape[1])
    b_ih, b_hh = (none if b is None else b for b in (cell.bias_ih, cell.bias_hh))
    return cell.weight_ih, cell.weight_hh, b_ih, b_hh


def _form(w_hh: Tensor) -> tuple[Any, ...]:  # Any: numbers and flags, as ATen takes them
    """Give mode, hidden size, number of layers, and whether there are biases, two directions."""
    return _LSTM, len(w_hh), 1, True, False


# Registered once, as this module is imported; the names live as long as the library object does.
# Arguments may have any strides, so Inductor need not copy them.
_LIBRARY: Any = Library("lincoln_fn", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch's own
_CELL: Final = "Tensor x, Tensor w_ih, Tensor w_hh, Tensor b_ih, Tensor b_hh, Tensor h, Tensor c"
_ANY_LAYOUT: Final = (torch.Tag.flexible_layout,)
_LIBRARY.define(
    f"lstm({_CELL}, bool reverse) -> (Tensor, Tensor, Tensor, Tensor)", tags=_ANY_LAYOUT
)
_LIBRARY.impl("lstm", _run, "CompositeExplicitAutograd")
_LIBRARY.define(
    f"lstm_backward({_CELL}, Tensor y, Tensor last_h, Tensor last_c, Tensor g, Tensor dh, "
    "Tensor dc, bool reverse, Tensor workspace) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=_ANY_LAYOUT,
)
_LIBRARY.impl("lstm_backward", _run_backward, "CompositeExplicitAutograd")
