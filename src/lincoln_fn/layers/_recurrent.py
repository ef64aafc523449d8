"""What rnn, gru and lstm share: several layers, two directions, states in and out, and masks.

Layer k runs over the outputs of layer k - 1; with two directions, over the outputs of both, one
behind the other on the last axis. The states of all layers and directions are stacked as torch
stacks them: layer 0 forward, layer 0 backward, layer 1 forward, and so on.

x is a sequence (batch, length, n_in), and y its outputs (batch, length, directions * hidden); or x
is a tuple (sequence, state) or (sequence, state, mask), and y a tuple (outputs, last state). The
state may be None for zeros; a mask (batch, length) is True where the sequence has an entry.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn.initializers import Fans, Initializer
from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays
from lincoln_fn.layers._scan import Cell, Rule, ScanCache, Tensors, scan, scan_backward
from lincoln_fn.record import brief, record, static
from lincoln_fn.shapes import LayerError, check_cotangent, check_input, check_like, check_params

Cells: TypeAlias = tuple[tuple[Cell, ...], ...]


class Form(NamedTuple):
    """What a recurrent layer's parameters are made by."""

    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    weight_init: Initializer
    bias_init: Initializer


class Family(NamedTuple):
    """A kind of recurrent layer: its name, its parameters' class, and its cell."""

    name: str
    params: type[Any]  # Any: a record with the field `cells`
    rule: Rule


@record
class Cache:
    """The scans by layer and direction, the outputs, the kind of cell, and the form of x."""

    scans: tuple[tuple[ScanCache, ...], ...]
    y: Float[Tensor, "batch length features"]
    family: Family = static()
    entries: int = static()
    has_state: bool = static()


class Inputs(NamedTuple):
    """The parts of x, whatever its form."""

    sequence: Float[Tensor, "batch length n_in"]
    state: Tensors | None
    mask: Bool[Tensor, "batch length"] | None
    entries: int


def init_cells(name: str, gates: int, key: Key, x: Arrays, form: Form) -> Cells:
    """Draw the cells of all layers and directions.

    Args:
        name: the layer's name.
        gates: how many gates a cell of the kind has.
        key: what the values are drawn from.
        x: an example input.
        form: the layer's sizes, and its initializers; their fans are those of a state, as torch
            has it.

    Returns:
        The cells, by layer and direction.

    Raises:
        LayerError: if x is no sequence (batch, length, n_in).
    """
    sequence = x[0] if type(x) is tuple and x else x
    _check_sequence(name, sequence)
    hidden, directions = form.hidden_size, 1 + form.bidirectional
    fans, width = Fans(hidden, hidden), gates * hidden
    keys = iter(key.near(sequence).split(4 * form.num_layers * directions))

    def drawn(initializer: Initializer, *shape: int) -> Tensor:
        return initializer.draw(next(keys), shape, fans, sequence.dtype)

    def cell(n_in: int) -> Cell:
        # In memory gate by gate, as oneDNN's kernel takes them.
        weights = (
            drawn(form.weight_init, rows, width).mT.contiguous().mT for rows in (n_in, hidden)
        )
        biases = (drawn(form.bias_init, width) if form.bias else None for _ in range(2))
        return Cell(*weights, *biases)

    inputs = [sequence.shape[-1]] + [directions * hidden] * (form.num_layers - 1)
    return tuple(tuple(cell(n_in) for _ in range(directions)) for n_in in inputs)


def run(family: Family, params: Any, x: Arrays) -> tuple[Arrays, Cache]:
    """Compute the outputs of all layers, and the last states.

    Args:
        family: the kind.
        params: the parameters.
        x: as the module says.

    Returns:
        y, as the module says, and the cache.

    Raises:
        LayerError: if x or the parameters do not fit.
    """
    check_params(family.name, params, family.params)
    cells: Cells = params.cells
    inputs = _unpacked(family, cells, x)
    y, directions = inputs.sequence, len(cells[0])
    lasts: list[Tensors] = []
    caches = []
    for k, pair in enumerate(cells):
        outputs, scans = [], []
        for d, cell in enumerate(pair):
            first = _first_state(family.rule, cell, inputs, k * directions + d)
            h, last, scanned = scan(family.rule, cell, y, first, inputs.mask, reverse=d == 1)
            outputs.append(h)
            scans.append(scanned)
            lasts.append(last)
        y = torch.cat(outputs, -1) if directions == 2 else outputs[0]
        caches.append(tuple(scans))
    cache = Cache(tuple(caches), y, family, inputs.entries, inputs.state is not None)
    if inputs.entries == 0:
        return y, cache
    return (y, _packed(tuple(torch.stack(s) for s in zip(*lasts, strict=True)))), cache


def run_backward(name: str, params: Any, cache: Cache, g: Arrays) -> tuple[Arrays, Any]:
    """Compute the gradients of all layers, from the last back to the first.

    Args:
        name: the layer's name.
        params: the parameters.
        cache: what `run` returned.
        g: dL/dy, in y's form.

    Returns:
        dx, in x's form, with None for a mask and for a state that was not given; and dparams.

    Raises:
        LayerError: if g, the cache or the parameters do not fit.
    """
    if type(cache) is not Cache or cache.family.name != name:
        raise LayerError(name, f"expected the cache of its own forward, got {brief(cache)}")
    family = cache.family
    check_params(name, params, family.params)
    cells: Cells = params.cells
    dy, dlasts = _unpacked_cotangent(family, cells, cache, g)
    dcells, dfirsts = [], []
    for k in range(len(cells) - 1, -1, -1):
        directions = len(cells[k])
        results = [
            scan_backward(family.rule, cell, scanned, part, dlasts[k * directions + d])
            for d, (cell, scanned, part) in enumerate(
                zip(cells[k], cache.scans[k], dy.chunk(directions, -1), strict=True)
            )
        ]
        dy = sum((dx for dx, _, _ in results[1:]), start=results[0][0])
        dcells.append(tuple(dcell for _, dcell, _ in results))
        dfirsts.append([dfirst for _, _, dfirst in results])
    dparams = family.params(tuple(dcells[::-1]))
    if cache.entries == 0:
        return dy, dparams
    in_order = [dfirst for pair in dfirsts[::-1] for dfirst in pair]
    dstate = _packed(tuple(torch.stack(s) for s in zip(*in_order, strict=True)))
    return (dy, dstate if cache.has_state else None, None)[: cache.entries], dparams


def _packed(state: Tensors) -> Arrays:
    return state[0] if len(state) == 1 else state


def _first_state(rule: Rule, cell: Cell, inputs: Inputs, which: int) -> Tensors:
    if inputs.state is not None:
        return tuple(s[which] for s in inputs.state)
    zeros = inputs.sequence.new_zeros(len(inputs.sequence), len(cell.weight_hh))
    return (zeros,) * rule.states


def _check_sequence(name: str, sequence: object) -> None:
    check_input(name, (), sequence)
    if isinstance(sequence, Tensor) and sequence.ndim != 3:
        shape = tuple(sequence.shape)
        raise LayerError(name, f"expected a sequence of shape (batch, length, n_in), got {shape}")


def _unpacked(family: Family, cells: Cells, x: Arrays) -> Inputs:
    name, entries = family.name, len(x) if type(x) is tuple else 0
    if type(x) is tuple and entries not in (2, 3):
        raise LayerError(name, f"expected x or (x, state) or (x, state, mask), got {brief(x)}")
    sequence, state, mask = (*x, None)[:3] if entries else (x, None, None)
    _check_sequence(name, sequence)
    weight = cells[0][0].weight_ih
    check_like(name, "x", sequence, weight)
    batch, length, n_in = sequence.shape
    if n_in != len(weight):
        wanted = f"(batch, length, {len(weight)}), got {tuple(sequence.shape)}"
        raise LayerError(name, f"expected a sequence of shape {wanted}")
    if state is not None:
        state = state if type(state) is tuple else (state,)
        shape = (len(cells) * len(cells[0]), batch, len(cells[0][0].weight_hh))
        _check_states(family, "the state", state, shape)
    if mask is not None and (mask.dtype is not torch.bool or mask.shape != (batch, length)):
        wanted = f"a bool mask of shape {(batch, length)}, got {brief(mask)}"
        raise LayerError(name, f"expected {wanted}")
    return Inputs(sequence, state, mask, entries)


def _unpacked_cotangent(
    family: Family, cells: Cells, cache: Cache, g: Arrays
) -> tuple[Tensor, list[Tensors]]:
    if (type(g) is tuple and len(g) == 2) != (cache.entries > 0):
        form = "(g of the outputs, g of the last state)" if cache.entries else "one tensor"
        raise LayerError(family.name, f"expected g to be {form}, got {brief(g)}")
    dy, dlast = g if cache.entries else (g, None)
    check_cotangent(family.name, dy, cache.y)
    shape = (len(cells) * len(cells[0]), len(dy), len(cells[0][0].weight_hh))
    if dlast is None:
        dlast = (dy.new_zeros(shape),) * family.rule.states
    dlast = dlast if type(dlast) is tuple else (dlast,)
    _check_states(family, "g of the last state", dlast, shape)
    return dy, list(zip(*dlast, strict=True))


def _check_states(family: Family, what: str, state: Tensors, shape: tuple[int, ...]) -> None:
    shapes = [tuple(s.shape) for s in state]
    if shapes != [shape] * family.rule.states:
        wanted = f"{family.rule.states} of shape {shape}"
        raise LayerError(family.name, f"expected {what} to have {wanted}, got {shapes}")
