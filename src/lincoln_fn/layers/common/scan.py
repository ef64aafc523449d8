"""One recurrent cell along one direction of a sequence, forward and backward.

A cell computes the new state s_t from the previous state and two sums. a_t comes from the input,
and b_t from the previous output h_(t-1), the first of the tensors in s_(t-1):

    a_t = x_t W_(ih) + b_(ih)
    b_t = h_(t-1) W_(hh) + b_(hh)
    s_t = step(a_t, b_t, s_(t-1))
    y_t = h_t

Derivation. The backward pass goes from the last step to the first. The gradient of s_t comes from
step t + 1; that of h_t also from the output: dh_t + g_t. From it, the step's own backward computes
da_t, db_t and the part of ds_(t-1) that does not go through b_t. The part that goes through b_t is
added to dh_(t-1):

    dh_(t-1) = dh_(t-1) + db_t W_(hh)^T

The sums over all steps are matrix products over the whole sequence at once:

    dx_t = da_t W_(ih)^T
    dW_(ih) = sum_t x_t^T da_t
    dW_(hh) = sum_t h_(t-1)^T db_t
    db_(ih) = sum_t da_t
    db_(hh) = sum_t db_t

Where a mask is False, s_t = s_(t-1) and y_t = 0. So there g_t is not used, da_t = db_t = 0, and
ds_(t-1) = ds_t.

Cache: for each step, x, h_(t-1) and the tensors that the step saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn.core import Outer, mirror, record, static, sum_rows

Tensors: TypeAlias = tuple[Tensor, ...]
Gates: TypeAlias = Float[Tensor, "batch gates"]
Outputs: TypeAlias = Float[Tensor, "batch length hidden"]


@record
class Cell:
    """The parameters of one cell, the matrices applied from the right; biases None without any."""

    weight_ih: Float[Tensor, "n_in gates"]
    weight_hh: Float[Tensor, "hidden gates"]
    bias_ih: Float[Tensor, " gates"] | None
    bias_hh: Float[Tensor, " gates"] | None


class Rule(NamedTuple):
    """The functions that define a kind of cell.

    `step` takes a_t, b_t and the state's tensors, and returns the new state's and those that
    `step_backward` needs; `step_backward` takes these and ds_t, and returns da_t, db_t and the part
    of ds_(t-1) that does not go through b_t.
    """

    gates: int
    states: int
    step: Callable[[Tensor, Tensor, Tensors], tuple[Tensors, Tensors]]
    step_backward: Callable[[Tensors, Tensors], tuple[Tensor, Tensor, Tensors]]


# (cell, x, h, da, db) -> the gradients of a cell's parameters, or their terms.
Total: TypeAlias = Callable[[Cell, Tensor, Tensor, Tensor, Tensor], Cell]


@record
class ScanCache:
    """The input, the output before each step, and the tensors that each step saved."""

    x: Float[Tensor, "batch length n_in"]
    before: Outputs
    kept: tuple[Tensors, ...]
    mask: Bool[Tensor, "length batch 1"] | None
    reverse: bool = static()


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x W + b."""
    return torch.nn.functional.linear(x, weight.mT, bias)


def scan(
    rule: Rule, cell: Cell, x: Float[Tensor, "batch length n_in"], state: Tensors,
    mask: Bool[Tensor, "batch length"] | None, reverse: bool,
) -> tuple[Outputs, Tensors, ScanCache]:  # fmt: skip
    """Compute s_t = step(a_t, b_t, s_(t-1)) for every t; return all y_t, the last s and the cache.

    `reverse` goes from the end to the beginning; y is in the order of x.
    """
    a = affine(x, cell.weight_ih, cell.bias_ih).transpose(0, 1)
    masks = None if mask is None else mask.mT.unsqueeze(-1)
    times = range(len(a))
    y: list[Tensor] = [state[0]] * len(a)
    before: list[Tensor] = [state[0]] * len(a)
    kept: list[Tensors] = [()] * len(a)
    for t in reversed(times) if reverse else times:
        before[t] = state[0]
        b = affine(state[0], cell.weight_hh, cell.bias_hh)
        new, kept[t] = rule.step(a[t], b, state)
        if masks is None:
            state, y[t] = new, new[0]
        else:
            state = tuple(torch.where(masks[t], s, old) for s, old in zip(new, state, strict=True))
            y[t] = torch.where(masks[t], new[0], 0)
    outputs = torch.stack(y, 1) if y else x.new_empty(len(x), 0, state[0].shape[-1])
    stacked = torch.stack(before, 1) if before else outputs
    return outputs, state, ScanCache(x, stacked, tuple(kept), masks, reverse)


def scan_backward(
    rule: Rule, cell: Cell, cache: ScanCache, g: Outputs, ds: Tensors, *, total: Total | None = None
) -> tuple[Float[Tensor, "batch length n_in"], Cell, Tensors]:
    """Compute dx, the cell's gradients or their terms, and ds of the first state, from the last."""
    da, db, ds = sums_backward(rule, cell, cache, g, ds)
    dcell = (total or cell_grads)(cell, cache.x, cache.before, da, db)
    return affine(da, cell.weight_ih.mT), dcell, ds


def sums_backward(
    rule: Rule, cell: Cell, cache: ScanCache, g: Outputs, ds: Tensors
) -> tuple[Float[Tensor, "batch length gates"], Float[Tensor, "batch length gates"], Tensors]:
    """Compute da_t and db_t of every step, and the gradient of the first state."""
    masks, times = cache.mask, range(len(cache.kept))
    da: list[Tensor] = [g] * len(times)
    db: list[Tensor] = [g] * len(times)
    for t in times if cache.reverse else reversed(times):
        later, ds = ds, (ds[0] + g[:, t], *ds[1:])
        if masks is not None:
            ds = tuple(torch.where(masks[t], d, 0) for d in ds)
        da[t], db[t], ds = rule.step_backward(cache.kept[t], ds)
        ds = (ds[0] + affine(db[t], cell.weight_hh.mT), *ds[1:])
        if masks is not None:
            handed_on = (torch.where(masks[t], 0, d) for d in later)
            ds = tuple(d + other for d, other in zip(ds, handed_on, strict=True))
    if not da:
        none = g.new_empty(len(g), 0, cell.weight_ih.shape[1])
        return none, none, ds
    return torch.stack(da, 1), torch.stack(db, 1), ds


def cell_grads(cell: Cell, x: Tensor, h: Tensor, da: Tensor, db: Tensor) -> Cell:
    """Compute dW_ih = x^T da, dW_hh = h^T db, db_ih = sum of da and db_hh = sum of db."""
    x, h, da, db = (rows.reshape(-1, rows.shape[-1]) for rows in (x, h, da, db))
    db_ih = None if cell.bias_ih is None else da.sum(0)
    return Cell(x.mT @ da, h.mT @ db, db_ih, None if cell.bias_hh is None else db.sum(0))


def cell_terms(cell: Cell, x: Tensor, h: Tensor, da: Tensor, db: Tensor) -> Cell:
    """Return x^T da, h^T db, the sum of da and the sum of db, of each example."""
    return mirror(
        cell, weight_ih=Outer(x, da), weight_hh=Outer(h, db),
        bias_ih=sum_rows(da), bias_hh=sum_rows(db),
    )  # fmt: skip
