"""Recurrent layers and cells: two dense layers at each step of a sequence.

`layers/_scan.py` derives the gradient of each step's two sums, da_t and db_t. The rest are the
gradients of two dense layers whose rows are the steps:

    dW_(ih) = sum_t x_t^T da_t
    dW_(hh) = sum_t h_(t-1)^T db_t
    db_(ih) = sum_t da_t
    db_(hh) = sum_t db_t

`lstm.py` computes da_t and db_t of the fast lstm, whose cache has no gates.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lincoln_fn.fastpath import product
from lincoln_fn.fastpath.lstm import KernelCache
from lincoln_fn.layer import Arrays
from lincoln_fn.layers import recurrent_cell
from lincoln_fn.layers._recurrent import run_backward
from lincoln_fn.layers._recurrent_forms import Cache
from lincoln_fn.layers._scan import Cell, Rule, ScanCache, Tensors, affine, sums_backward
from lincoln_fn.per_example import lstm
from lincoln_fn.per_example.checks import check_batch_axis, check_rows
from lincoln_fn.per_example.outer import Outer
from lincoln_fn.per_example.products import bias_term, by_example
from lincoln_fn.record import evolve


# Any: the params of rnn, gru or lstm.
def backward(params: Any, cache: Cache, g: Arrays) -> tuple[Arrays, Any]:
    """Compute dx, and return the terms of the cells' parameters."""
    name = cache.family.name
    check_batch_axis(name, cache.batch_axis, cache.y)
    return run_backward(name, params, cache, g, _scan_backward)


def _scan_backward(
    rule: Rule, cell: Cell, cache: ScanCache | KernelCache, g: Tensor, ds: Tensors
) -> tuple[Tensor, Cell, Tensors]:
    """Compute what `scan_backward` does, with terms in place of the cell's gradients."""
    if isinstance(cache, ScanCache):
        da, db, ds = sums_backward(rule, cell, cache, g, ds)
        h, db = cache.before.transpose(0, 1), db.transpose(0, 1)
        return affine(da, cell.weight_ih.mT), _cell_terms(cell, cache.x, h, da, db), ds
    dz, h, ds = lstm.sums_backward(cell, cache, g, ds)
    dx = product.linear(dz, cell.weight_ih)
    x, h, dx, dz = (t.transpose(0, 1) for t in (cache.x, h, dx, dz))
    return dx, _cell_terms(cell, x, h, dz, dz), ds


def cell_terms(params: Cell, cache: recurrent_cell.Cache, g: Arrays) -> Cell:
    """Return the terms of one step's parameters."""
    ds = g if isinstance(g, tuple) else (g,)
    check_rows(f"{cache.family.name}_cell", ds[0])
    da, db, _ = cache.family.rule.step_backward(cache.kept, ds)
    return _cell_terms(params, cache.x, cache.h, da, db)


def _cell_terms(cell: Cell, x: Tensor, h: Tensor, da: Tensor, db: Tensor) -> Cell:
    """Return the terms of dW_ih = x^T da, dW_hh = h^T db and the biases."""
    return evolve(
        cell,
        weight_ih=Outer(by_example(x), by_example(da), tuple(cell.weight_ih.shape)),
        weight_hh=Outer(by_example(h), by_example(db), tuple(cell.weight_hh.shape)),
        bias_ih=bias_term(cell.bias_ih, da),
        bias_hh=bias_term(cell.bias_hh, db),
    )
