"""The forms that x and y of rnn, gru and lstm may have, and the checks of them.

x is a sequence and y its outputs; or x is (sequence, state) or (sequence, state, mask), and y is
(outputs, last state). A sequence is (batch, length, n_in), or (length, batch, n_in) without
`batch_first`, or (length, n_in) without a batch; outputs and mask have the same order of axes.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lincoln_fn import core
from lincoln_fn.core import Arrays, format_briefly, record, static, unexpected, wrong_shape
from lincoln_fn.layers.common.scan import Cell, Rule, Tensors
from lincoln_fn.layers.common.sequences import check_mask

Cells: TypeAlias = tuple[tuple[Cell, ...], ...]


class Family(NamedTuple):
    """A kind of recurrent layer: its name, its parameters' class, and its cell."""

    name: str
    params: type[core.Params]  # a record with the field `cells`
    rule: Rule


@record
class Cache:
    """The scans by layer and direction, the outputs, the kind of cell, and the form of x.

    `batch_axis` is that of the sequence's batch, None for one without.
    """

    scans: tuple[tuple[core.Cache, ...], ...]  # a ScanCache, or a faster one
    y: Float[Tensor, "*batch_and_length features"]
    family: Family = static()
    entries: int = static()
    has_state: bool = static()
    batch_axis: int | None = static(default=0)


class Inputs(NamedTuple):
    """The parts of x, batch first, and the axis of x that was the batch."""

    sequence: Float[Tensor, "batch length n_in"]
    state: Tensors | None
    mask: Bool[Tensor, "batch length"] | None
    entries: int
    batch_axis: int | None


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
        raise core.wrong_shape(name, "a sequence", sequence, f"{axes} or (length, n_in)")


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
        raise core.unexpected(name, "x or (x, state) or (x, state, mask)", format_briefly(x))
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
        raise core.wrong_shape(name, "a sequence", sequence, f"{axes} {len(weight)})")
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
        zeros = dy.new_zeros(_state_shape(cells, dy, axis))
        dlast = (zeros,) * family.rule.states
    dlast = _states(family, cells, "g of the last state", dlast, dy, axis)
    return to_batch_first(dy, axis), list(zip(*dlast, strict=True))


def _state_shape(cells: Cells, sequence: Tensor, axis: int | None) -> tuple[int, ...]:
    count, hidden = len(cells) * len(cells[0]), len(cells[0][0].weight_hh)
    return (count, hidden) if axis is None else (count, sequence.shape[axis], hidden)


def _states(
    family: Family, cells: Cells, what: str, state: Arrays, sequence: Tensor, axis: int | None
) -> Tensors:
    """Check the states of all layers and directions, and add a batch axis."""
    shape = _state_shape(cells, sequence, axis)
    states = checked_states(family.name, family.rule, what, state, shape)
    return tuple(s.unsqueeze(1) for s in states) if axis is None else states


def checked_states(
    name: str, rule: Rule, what: str, state: Arrays, shape: tuple[int, ...]
) -> Tensors:
    """Check that a state has the cell's number of tensors, all of one shape."""
    states = state if type(state) is tuple else (state,)
    shapes = [tuple(s.shape) if isinstance(s, Tensor) else format_briefly(s) for s in states]
    if shapes != [shape] * rule.states:
        raise core.unexpected(name, f"{what} to have {rule.states} of shape {shape}", shapes)
    return states
