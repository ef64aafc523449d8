"""Shared by rnn, gru and lstm: several layers, two directions, states in and out, and masks.

Layer k runs over the outputs of layer k - 1; with two directions, over the outputs of both, side by
side on the last axis. The states of all layers and directions are stacked as torch stacks them:
layer 0 forward, layer 0 backward, layer 1 forward, and so on. `recurrent_forms.py` lists the forms
of x and y.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, Params, format_briefly
from lincoln_fn.initializers import Fans, Initializer, fan_in_uniform
from lincoln_fn.layers.common import recurrent_forms as forms
from lincoln_fn.layers.common.recurrent_forms import Cache, Cells, Family
from lincoln_fn.layers.common.scan import Cell, Tensors, cell_terms, scan, scan_backward

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
    forms.check_sequence(family.name, sequence, batch_first=True)
    hidden, directions = form.hidden_size, 1 + form.bidirectional
    count = 4 * form.num_layers * directions
    keys = map(key.fold_in, range(count))

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
    inputs = forms.unpacked(family, cells, x, batch_first)
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
    y = forms.to_given_form(y, axis)
    cache = Cache(tuple(caches), y, family, entries, inputs.state is not None, axis)
    return (y, forms.packed(lasts, axis)) if entries else y, cache


def run_backward(
    name: str, params: Params, cache: Cache, g: Arrays, scan_backward: ScanBackward = scan_backward
) -> tuple[Arrays, Params]:
    """Compute dx and dparams, by the scans' own backward from the last layer to the first."""
    if type(cache) is not Cache or cache.family.name != name:
        raise core.unexpected(name, "the cache of its own forward", format_briefly(cache))
    family = cache.family
    cells: Cells = params.cells
    dy, dlasts = forms.unpacked_cotangent(family, cells, cache, g)
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
    dy = forms.to_given_form(dy, cache.batch_axis)
    if cache.entries == 0:
        return dy, dparams
    dstate = forms.packed([dfirst for pair in dfirsts[::-1] for dfirst in pair], cache.batch_axis)
    return (dy, dstate if cache.has_state else None, None)[: cache.entries], dparams


def run_terms(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    """Compute dx, and return the terms of the cells' parameters."""
    return run_backward(
        cache.family.name, params, cache, g, partial(scan_backward, total=cell_terms)
    )
