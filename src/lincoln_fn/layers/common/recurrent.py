"""Shared by rnn, gru and lstm: several layers, two directions, states in and out, and masks.

Layer k runs over the outputs of layer k - 1; with two directions, over the outputs of both, side by
side on the last axis. The states of all layers and directions are stacked as torch stacks them:
layer 0 forward, layer 0 backward, layer 1 forward, and so on.

x is a sequence and y its outputs; or x is (sequence, state) or (sequence, state, mask), and y is
(outputs, last state). A sequence is (batch, length, n_in), or (length, batch, n_in) without
`batch_first`, or (length, n_in) without a batch; outputs and mask have the same order of axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Final, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, Params, format_briefly, record, unexpected, wrong_shape
from lincoln_fn.initializers import Fans, Initializer, fan_in_uniform
from lincoln_fn.layers.common.scan import Cell, Rule, Tensors, cell_terms, scan, scan_backward
from lincoln_fn.layers.common.sequences import check_mask

Cells: TypeAlias = tuple[tuple[Cell, ...], ...]


class Family(NamedTuple):
    """A kind of recurrent layer: its name, its parameters' class, and its cell."""

    name: str
    params: type[Params]  # a record with the field `cells`
    rule: Rule


@record
class Cache:
    """The scans by layer and direction, the outputs, the kind of cell, and the form of x.

    `batch_axis` is that of the sequence's batch, None for one without.
    """

    scans: tuple[tuple[core.Cache, ...], ...]  # a ScanCache, or a faster one
    y: Float[Tensor, "*batch_and_length features"]
    family: Family = core.static()
    entries: int = core.static()
    has_state: bool = core.static()
    batch_axis: int | None = core.static(default=0)


class Inputs(NamedTuple):
    """The parts of x, batch first, and the axis of x that was the batch."""

    sequence: Float[Tensor, "batch length n_in"]
    state: Tensors | None
    mask: Bool[Tensor, "batch length"] | None
    entries: int
    batch_axis: int | None


# A faster scan may have another cache.
Scan: TypeAlias = Callable[..., tuple[Tensor, Tensors, core.Cache]]
ScanBackward: TypeAlias = Callable[..., tuple[Tensor, Cell, Tensors]]

FAN_IN: Final = fan_in_uniform()


class Form(NamedTuple):
    """How a recurrent layer's parameters are made."""

    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    weight_init: Initializer
    bias_init: Initializer


def init_cells(family: Family, key: Key, x: Arrays, form: Form) -> Cells:
    """Draw the cells of all layers and directions; all fans are those of a state, as in torch."""
    sequence = x[0] if type(x) is tuple and x else x
    check_sequence(family.name, sequence, batch_first=True)
    hidden, directions = form.hidden_size, 1 + form.bidirectional
    keys = map(key.fold_in, range(4 * form.num_layers * directions))

    def cell(n_in: int) -> Cell:
        return drawn_cell(keys, n_in, family.rule.gates, form, sequence.dtype)

    inputs = [sequence.shape[-1]] + [directions * hidden] * (form.num_layers - 1)
    return tuple(tuple(cell(n_in) for _ in range(directions)) for n_in in inputs)


def drawn_cell(keys: Iterator[Key], n_in: int, gates: int, form: Form, dtype: torch.dtype) -> Cell:
    """Draw a cell, with the next key for each of its parameters."""
    hidden = form.hidden_size
    fans, width = Fans(hidden, hidden), gates * hidden
    weights = (form.weight_init.draw(next(keys), (n, width), fans, dtype) for n in (n_in, hidden))
    biases = (form.bias_init.draw(next(keys), (width,), fans, dtype) for _ in range(2))
    return Cell(*weights, *(biases if form.bias else (None, None)))


def run(
    family: Family, params: Params, x: Arrays, batch_first: bool, scan: Scan = scan
) -> tuple[Arrays, Cache]:
    """Compute the outputs of all layers, each by a scan over those before, and the last states."""
    cells: Cells = params.cells
    inputs = unpacked(family, cells, x, batch_first)
    y, directions = inputs.sequence, len(cells[0])
    zeros = y.new_zeros(len(y), len(cells[0][0].weight_hh))
    none = repeat((zeros,) * family.rule.states)
    firsts: Iterator[Tensors] = none if inputs.state is None else zip(*inputs.state, strict=True)
    lasts: list[Tensors] = []
    caches = []
    for pair in cells:
        outputs, scans = [], []
        for d, cell in enumerate(pair):
            h, last, scanned = scan(family.rule, cell, y, next(firsts), inputs.mask, d == 1)
            outputs.append(h)
            scans.append(scanned)
            lasts.append(last)
        y = torch.cat(outputs, -1) if directions == 2 else outputs[0]
        caches.append(tuple(scans))
    entries, axis = inputs.entries, inputs.batch_axis
    y = to_given_form(y, axis)
    cache = Cache(tuple(caches), y, family, entries, inputs.state is not None, axis)
    return (y, packed(lasts, axis)) if entries else y, cache


def run_backward(
    name: str, params: Params, cache: Cache, g: Arrays, scan_backward: ScanBackward = scan_backward
) -> tuple[Arrays, Params]:
    """Compute dx and dparams, by the scans' own backward from the last layer to the first."""
    if type(cache) is not Cache or cache.family.name != name:
        raise unexpected(name, "the cache of its own forward", format_briefly(cache))
    family = cache.family
    cells: Cells = params.cells
    dy, dlasts = unpacked_cotangent(family, cells, cache, g)
    dcells, dfirsts = [], []
    for k in range(len(cells) - 1, -1, -1):
        directions = len(cells[k])
        own = dlasts[k * directions : (k + 1) * directions]
        given = zip(cells[k], cache.scans[k], dy.chunk(directions, -1), own, strict=True)
        results = [scan_backward(family.rule, *each) for each in given]
        dy = sum((dx for dx, _, _ in results[1:]), start=results[0][0])
        dcells.append(tuple(dcell for _, dcell, _ in results))
        dfirsts.append([dfirst for _, _, dfirst in results])
    dparams = family.params(tuple(dcells[::-1]))
    dy = to_given_form(dy, cache.batch_axis)
    if cache.entries == 0:
        return dy, dparams
    dstate = packed([dfirst for pair in dfirsts[::-1] for dfirst in pair], cache.batch_axis)
    return (dy, dstate if cache.has_state else None, None)[: cache.entries], dparams


def run_terms(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    """Compute dx, and return the terms of the cells' parameters."""
    return run_backward(
        cache.family.name, params, cache, g, partial(scan_backward, total=cell_terms)
    )


def to_batch_first(t: Tensor, batch_axis: int | None) -> Tensor:
    """Make the batch the first axis of a sequence, outputs or a mask."""
    if batch_axis is None:
        return t.unsqueeze(0)
    return t if batch_axis == 0 else t.transpose(0, batch_axis)


def to_given_form(t: Tensor, batch_axis: int | None) -> Tensor:
    """Convert a sequence or outputs back to x's form."""
    return t.squeeze(0) if batch_axis is None else to_batch_first(t, batch_axis)


def packed(states: list[Tensors], batch_axis: int | None) -> Arrays:
    """Stack the states of all layers and directions, as x has them."""
    stacked = tuple(torch.stack(s) for s in zip(*states, strict=True))
    packed = tuple(s.squeeze(1) for s in stacked) if batch_axis is None else stacked
    return packed[0] if len(packed) == 1 else packed


def check_sequence(name: str, sequence: object, batch_first: bool) -> None:
    """Check that a sequence is one, with or without a batch."""
    if isinstance(sequence, PackedSequence):
        mend = "use torch.nn.utils.rnn.pad_packed_sequence"
        raise unexpected(name, "a padded sequence and a mask", "PackedSequence", mend)
    core.check_input(name, (), sequence)
    if isinstance(sequence, Tensor) and sequence.ndim not in (2, 3):
        axes = "(batch, length, n_in)" if batch_first else "(length, batch, n_in)"
        raise wrong_shape(name, "a sequence", sequence, f"{axes} or (length, n_in)")


def check_cell(name: str, cell: Cell, gates: int) -> None:
    """Check that the shapes of a cell's parameters fit together; a bias must not broadcast."""
    hidden, width = cell.weight_hh.shape[0], cell.weight_hh.shape[-1]
    if cell.weight_hh.shape != (hidden, gates * hidden):
        raise wrong_shape(name, "weight_hh", cell.weight_hh, f"{(hidden, gates * hidden)}")
    if cell.weight_ih.ndim != 2 or cell.weight_ih.shape[1] != width:
        raise wrong_shape(name, "weight_ih", cell.weight_ih, f"(n_in, {width})")
    for field, bias in (("bias_ih", cell.bias_ih), ("bias_hh", cell.bias_hh)):
        if bias is not None and bias.shape != (width,):
            raise wrong_shape(name, field, bias, f"({width},)")


def unpacked(family: Family, cells: Cells, x: Arrays, batch_first: bool) -> Inputs:
    """Split x into its parts, and check that they fit."""
    name, entries = family.name, len(x) if type(x) is tuple else 0
    if type(x) is tuple and entries not in (2, 3):
        raise unexpected(name, "x or (x, state) or (x, state, mask)", format_briefly(x))
    sequence, state, mask = (*x, None)[:3] if entries else (x, None, None)
    check_sequence(name, sequence, batch_first)
    weight = cells[0][0].weight_ih
    core.check_like(name, "x", sequence, weight)
    for pair in cells:
        for cell in pair:
            check_cell(name, cell, family.rule.gates)
    axis = None if sequence.ndim == 2 else 0 if batch_first else 1
    if sequence.shape[-1] != len(weight):
        axes = {None: "(length,", 0: "(batch, length,", 1: "(length, batch,"}[axis]
        raise wrong_shape(name, "a sequence", sequence, f"{axes} {len(weight)})")
    if state is not None:
        state = _states(family, cells, "the state", state, sequence, axis)
    if mask is not None:
        check_mask(name, mask, sequence)
        mask = to_batch_first(mask, axis)
    return Inputs(to_batch_first(sequence, axis), state, mask, entries, axis)


def unpacked_cotangent(
    family: Family, cells: Cells, cache: Cache, g: Arrays
) -> tuple[Tensor, list[Tensors]]:
    """Split g: dL/dy, batch first, and dL/ds of each layer and direction."""
    if (type(g) is tuple and len(g) == 2) != (cache.entries > 0):
        form = "(g of the outputs, g of the last state)" if cache.entries else "one tensor"
        raise unexpected(family.name, f"g to be {form}", format_briefly(g))
    dy, dlast = g if cache.entries else (g, None)
    core.check_cotangent(family.name, dy, cache.y)
    axis = cache.batch_axis
    if dlast is None:
        dlast = (dy.new_zeros(_state_shape(cells, dy, axis)),) * family.rule.states
    dlast = _states(family, cells, "g of the last state", dlast, dy, axis)
    return to_batch_first(dy, axis), list(zip(*dlast, strict=True))


def _state_shape(cells: Cells, sequence: Tensor, axis: int | None) -> tuple[int, ...]:
    count, hidden = len(cells) * len(cells[0]), len(cells[0][0].weight_hh)
    return (count, hidden) if axis is None else (count, sequence.shape[axis], hidden)


def _states(
    family: Family, cells: Cells, what: str, state: Arrays, sequence: Tensor, axis: int | None
) -> Tensors:
    shape = _state_shape(cells, sequence, axis)
    states = checked_states(family.name, family.rule, what, state, shape)
    return tuple(s.unsqueeze(1) for s in states) if axis is None else states


def checked_states(name: str, rule: Rule, what: str, state: Arrays, shape: core.Sizes) -> Tensors:
    """Check that a state has the cell's number of tensors, all of one shape."""
    states = state if type(state) is tuple else (state,)
    shapes = [tuple(s.shape) if isinstance(s, Tensor) else format_briefly(s) for s in states]
    if shapes != [shape] * rule.states:
        raise unexpected(name, f"{what} to have {rule.states} of shape {shape}", shapes)
    return states
