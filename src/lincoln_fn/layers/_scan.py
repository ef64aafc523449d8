"""One recurrent cell along one direction of a sequence, forward and backward.

Derivation. A cell makes a new state of two sums, a_t from the input and b_t from the last output:

    a_t = x_t W_ih + b_ih,    b_t = h_{t-1} W_hh + b_hh,    s_t = rule(a_t, b_t, s_{t-1}),

where h is the first of the tensors in s. Backward in time, with ds_t the sum of what comes from
the output at t and from step t + 1, the rule's own backward gives da_t, db_t and a part of
ds_{t-1}, and

    dh_{t-1} += db_t W_hh^T
    dx_t      = da_t W_ih^T      dW_ih = sum_t x_t^T da_t        db_ih = sum_t da_t
                                 dW_hh = sum_t h_{t-1}^T db_t    db_hh = sum_t db_t

The sums over t are matrix products over the whole sequence at once. Where a mask is False the
state is handed on unchanged, s_t = s_{t-1}, and the output is 0: so is the gradient that enters
there, and ds_t goes to ds_{t-1} as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn.layers._product import linear
from lincoln_fn.record import record, static

Tensors: TypeAlias = tuple[Tensor, ...]


@record
class Cell:
    """The parameters of one cell, the matrices applied from the right; biases None without any."""

    weight_ih: Float[Tensor, "n_in gates"]
    weight_hh: Float[Tensor, "hidden gates"]
    bias_ih: Float[Tensor, " gates"] | None
    bias_hh: Float[Tensor, " gates"] | None


class Rule(NamedTuple):
    """What tells one kind of cell from another.

    `forward` takes a_t, b_t and the state's tensors, and returns the new state's and those that
    `backward` needs; `backward` takes these and ds_t, and returns da_t, db_t and ds_{t-1}.
    `kernel` is a module that computes whole sequences of its kind faster, or None.
    """

    gates: int
    states: int
    forward: Callable[[Tensor, Tensor, Tensors], tuple[Tensors, Tensors]]
    backward: Callable[[Tensors, Tensors], tuple[Tensor, Tensor, Tensors]]
    kernel: ModuleType | None = None


@record
class ScanCache:
    """The input, the output before each step, and what the rule kept of each step."""

    x: Float[Tensor, "batch length n_in"]
    before: Float[Tensor, "length batch hidden"]
    kept: tuple[Tensors, ...]
    mask: Bool[Tensor, "length batch 1"] | None
    reverse: bool = static()


def scan(
    rule: Rule,
    cell: Cell,
    x: Float[Tensor, "batch length n_in"],
    state: Tensors,
    mask: Bool[Tensor, "batch length"] | None,
    reverse: bool,
) -> tuple[Float[Tensor, "batch length hidden"], Tensors, Any]:  # Any: as `scan_backward` takes it
    """Run a cell along a sequence.

    Args:
        rule: the kind of cell.
        cell: its parameters.
        x: the sequence.
        state: the tensors of s_0, each (batch, hidden).
        mask: where the sequence has an entry; None if it has everywhere.
        reverse: whether to go from the end to the beginning.

    Returns:
        The outputs h_t, in the order of x; the last state; and the cache.
    """
    if rule.kernel is not None and mask is None and rule.kernel.suits(x):
        by_kernel: tuple[Tensor, Tensors, Any] = rule.kernel.forward(cell, x, state, reverse)
        return by_kernel
    a = linear(x, cell.weight_ih.mT, cell.bias_ih).transpose(0, 1)
    steps = None if mask is None else mask.mT.unsqueeze(-1)
    times = range(len(a))
    outputs: list[Tensor] = [state[0]] * len(a)
    before: list[Tensor] = [state[0]] * len(a)
    kept: list[Tensors] = [()] * len(a)
    for t in reversed(times) if reverse else times:
        before[t] = state[0]
        b = linear(state[0], cell.weight_hh.mT, cell.bias_hh)
        new, kept[t] = rule.forward(a[t], b, state)
        if steps is None:
            state, outputs[t] = new, new[0]
        else:
            state = tuple(torch.where(steps[t], s, old) for s, old in zip(new, state, strict=True))
            outputs[t] = torch.where(steps[t], new[0], 0)
    y = torch.stack(outputs, 1) if outputs else x.new_empty(len(x), 0, state[0].shape[-1])
    stacked = torch.stack(before) if before else state[0].new_empty(0, *state[0].shape)
    return y, state, ScanCache(x, stacked, tuple(kept), steps, reverse)


def scan_backward(
    rule: Rule,
    cell: Cell,
    cache: Any,  # Any: a ScanCache, or the kernel's own
    g: Float[Tensor, "batch length hidden"],
    dstate: Tensors,
) -> tuple[Float[Tensor, "batch length n_in"], Cell, Tensors]:
    """Run the derivation above.

    Args:
        rule: the kind of cell.
        cell: its parameters.
        cache: what `scan` returned.
        g: dL/dy for the outputs.
        dstate: dL/ds for the last state.

    Returns:
        dx, the gradients of the cell's parameters, and that of the first state.
    """
    if rule.kernel is not None and not isinstance(cache, ScanCache):
        by_kernel: tuple[Tensor, Cell, Tensors] = rule.kernel.backward(cell, cache, g, dstate)
        return by_kernel
    steps = cache.mask
    times = range(len(cache.kept))
    da: list[Tensor] = [g] * len(times)
    db: list[Tensor] = [g] * len(times)
    for t in times if cache.reverse else reversed(times):
        if steps is None:
            ds = (dstate[0] + g[:, t], *dstate[1:])
            da[t], db[t], ds = rule.backward(cache.kept[t], ds)
            dstate = (ds[0] + linear(db[t], cell.weight_hh), *ds[1:])
        else:
            ds = tuple(torch.where(steps[t], d, 0) for d in (dstate[0] + g[:, t], *dstate[1:]))
            da[t], db[t], ds = rule.backward(cache.kept[t], ds)
            through = (ds[0] + linear(db[t], cell.weight_hh), *ds[1:])
            rest = (torch.where(steps[t], 0, d) for d in dstate)
            dstate = tuple(d + handed_on for d, handed_on in zip(through, rest, strict=True))
    if not times:
        return torch.zeros_like(cache.x), _zeros(cell), dstate
    da_rows, db_rows = torch.stack(da, 1).flatten(0, 1), torch.stack(db).flatten(0, 1)
    x_rows, before_rows = cache.x.flatten(0, 1), cache.before.flatten(0, 1)
    dcell = Cell(
        x_rows.mT @ da_rows,
        before_rows.mT @ db_rows,
        None if cell.bias_ih is None else da_rows.sum(0),
        None if cell.bias_hh is None else db_rows.sum(0),
    )
    return linear(da_rows, cell.weight_ih).view(cache.x.shape), dcell, dstate


def _zeros(cell: Cell) -> Cell:
    biases = (None if b is None else torch.zeros_like(b) for b in (cell.bias_ih, cell.bias_hh))
    return Cell(torch.zeros_like(cell.weight_ih), torch.zeros_like(cell.weight_hh), *biases)
