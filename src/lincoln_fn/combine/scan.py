"""A cell over a sequence: s_t = cell(x_t, s_(t-1)), with backpropagation through time.

    y_t, s_t = "cell"(x_t, s_(t-1))        for t from 1 to n

A recurrent cell returns s_t alone. Then y_t is the first tensor of s_t, as in an LSTM, whose state
is (h, c).

Derivation. s_t enters the cell at step t + 1, and y_t is an output. So the cell at step t gets g_t
for y_t, and for s_t the gradient that step t + 1 returns, from the last step to the first:

    dx_t, ds_(t-1) = "back"_(cell, t)(g_t, ds_t)

If y_t is a part of s_t, its two gradients are added up. The parameters enter every step:

    "dparams" = sum_t "dparams"_t

Where a mask is False, s_t = s_(t-1) and y_t = 0. So there the cell gets 0 for g_t and for ds_t, and
ds_t goes on to ds_(t-1).

Cache: the cache of each step, the shapes of y and s_n, and the mask.
"""

from __future__ import annotations

from functools import partial, reduce

import torch
from jaxtyping import Bool
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine import _steps, _wiring
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, PositiveInt, record, stand_in, tree
from lincoln_fn.walk import ITS_PART, VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record, allows_loops


@record
class Ends:
    """Stand-ins for y and the last state, without memory of their own, and what else x has."""

    y: Arrays
    state: Arrays
    mask: Bool[Tensor, "length ..."] | None  # the axis of the steps first
    entries: int = core.static()  # the number of entries of x, 0 for a tensor
    has_state: bool = core.static()


def there(
    visit: VisitThere, params: Params, x: Arrays,
    *, dim: int, reverse: bool, has_output: bool, sequences: int = 1,
) -> tuple[Arrays, Record]:  # fmt: skip
    """Compute y_t, s_t = cell(x_t, s_(t-1)) at each step."""
    given, state, mask = _steps.unpack(x, dim, sequences)
    step = partial(_step_there, visit, has_output)
    walked = _steps.steps_in_order(given, dim, reverse), _steps.steps_in_order(mask, 0, reverse)
    is_loop = allows_loops(visit) and _steps.is_traced_once(given[0], given[0].shape[dim])
    looped = _steps.loop_there(step, (params, state), walked) if is_loop else None
    all_y, state, caches = looped or _steps.each_there(step, (params, state), walked)
    outputs = tree.map(lambda y: _steps.steps_placed(y, dim, reverse), all_y)
    entries = len(x) if type(x) is tuple else 0
    has_state = entries > sequences
    y = (outputs, state) if has_state else outputs
    stand_ins = tree.map(stand_in, y), tree.map(stand_in, state)
    return y, (caches, Ends(*stand_ins, mask, entries, has_state))


def _step_there(
    visit: VisitThere, has_output: bool, carry: tuple[Params, Arrays],
    of_step: tuple[tuple[Tensor, ...], Tensor | None],
) -> tuple[tuple[Params, Arrays], tuple[Arrays, Params, Record]]:  # fmt: skip
    """Compute a step; return the params and the state after it, and y_t, its params and record."""
    (params, state), (x_t, mask_t) = carry, of_step
    made, record = visit(0, params, (_as_given(x_t), state))
    if has_output and (type(made) is not tuple or len(made) != 2):
        raise _wiring.wrong_output(visit, 0, "the cell to return (y_t, s_t)", made)
    y_t, new = made if has_output else (_first(made), made)
    after = visit.advance(0, params, record), _steps.where(mask_t, new, state)
    return after, (_steps.where(mask_t, y_t, None), params, record)


def _back(
    visit: VisitBack, params: Params, cache: Cache, g: Arrays,
    *, dim: int, reverse: bool, has_output: bool, sequences: int = 1,
) -> tuple[Arrays, Record]:  # fmt: skip
    """Compute dx_t, ds_(t-1) = back(g_t, ds_t) at each step, from the last to the first."""
    check_entries(visit.label, "the cache", cache, 2)
    caches, ends = cache[0], cache[1]
    gs, ds = _of_ends(visit, g, ends)
    step = partial(_step_back, visit, has_output, sequences)
    walked = _steps.steps_in_order(gs, dim, reverse), _steps.steps_in_order(ends.mask, 0, reverse)
    looped = None
    if isinstance(caches, _steps.Looped):
        first = tree.leaves(gs)[0]
        if allows_loops(visit) and _steps.is_traced_once(first, first.shape[dim]):
            looped = _steps.loop_back(step, (ds, ()), walked, params, caches)
        caches = _steps.caches_of(caches)
    if looped is None:
        uses = _params_of_steps(visit, params, caches)
        looped = _steps.each_back(step, (ds, ()), walked, uses, caches)
    (ds, records), entries = looped
    dx = [entry if entry is None else _steps.steps_placed(entry, dim, reverse) for entry in entries]
    return (*dx, ds, None)[: ends.entries] if ends.entries else dx[0], records


def _step_back(
    visit: VisitBack, has_output: bool, sequences: int, carry: _steps.CarryBack,
    of_step: tuple[Arrays, Tensor | None, Params, Cache],
) -> tuple[_steps.CarryBack, tuple[Tensor | None, ...]]:  # fmt: skip
    """Compute ds_(t-1) and the records so far, and dx_t."""
    (ds, records), (g_t, mask_t, params, cache) = carry, of_step
    g_t, ds_t = _steps.where(mask_t, g_t, None), _steps.where(mask_t, ds, None)
    of_cell = (g_t, ds_t) if has_output else _add_to_first(ds_t, g_t)
    (dx_t, before), record = visit(0, params, cache, of_cell)
    if mask_t is not None and before is not None:
        before = core.add_trees(before, _steps.where(~mask_t, ds, None))
    dxs = (dx_t,) if sequences == 1 else dx_t or (None,) * sequences
    return (before, visit.add(record, records)), dxs


def _of_ends(visit: VisitBack, g: Arrays, ends: Ends) -> tuple[Arrays, Arrays]:
    """Return the gradients of y and of the last state: zeros for a state that has none."""
    zeros = tree.map(torch.zeros_like, ends.state)
    if ends.has_state and type(g) is tuple and len(g) == 2 and g[1] is None:
        g = (g[0], zeros)
    _wiring.check_mirrors(visit.label, g, ends.y)
    return g if ends.has_state else (g, zeros)


def _params_of_steps(visit: VisitBack, params: Params, caches: Cache) -> list[Params]:
    """List the params that each step's forward had; their states differ."""
    if visit.parts[0].advance is core.unchanged:
        return [params] * len(caches)
    uses = [params]
    for cache in caches[:-1]:
        uses.append(visit.advance(0, uses[-1], cache))
    return uses


def _init(
    parts: tuple[Layer, ...], key: Key, x: Arrays, *, dim: int, reverse: bool, sequences: int = 1
) -> Params:
    given, state, _ = _steps.unpack(x, dim, sequences)
    first = tuple(sequence.select(dim, -1 if reverse else 0) for sequence in given)
    return parts[0].init(key, (_as_given(first), state))


def _advance(visit: VisitThere, params: Params, cache: Cache) -> Params:
    if isinstance(cache[0], _steps.Looped):
        return _wiring.with_states(visit, params, _wiring.Kept((), cache[0].advanced))
    return reduce(partial(visit.advance, 0), cache[0], params)


def _as_given(x_t: tuple[Tensor, ...]) -> Arrays:
    """Return a step's input as the cell takes it: a single one is no tuple."""
    return x_t[0] if len(x_t) == 1 else x_t


def _first(state: Arrays) -> Tensor:
    # A state is most often a tensor, or a tuple that begins with one: no tree is walked for that.
    first = state[0] if type(state) is tuple and state else state
    leaf: Tensor = first if isinstance(first, Tensor) else tree.leaves(state)[0]
    return leaf


def _add_to_first(state: Arrays, g: Tensor) -> Arrays:
    if isinstance(state, Tensor):
        return state + g
    first = _first(state)
    return tree.map(lambda leaf: leaf + g if leaf is first else leaf, state)


@core.constructor
def scan(
    cell: Layer,
    *,
    dim: int = 1,
    reverse: bool = False,
    has_output: bool = False,
    sequences: PositiveInt = 1,
) -> Layer:
    """Run a cell over a sequence: s_t = cell((x_t, s_(t-1))), and y_t is the first tensor of s_t.

    x is a sequence (batch, length, ...), and y is all y_t, stacked in the same axis. Or x is
    (sequence, state) or (sequence, state, mask), and y is (all y_t, the last state). Without a
    state, or with None for it, the first step gets (x_1, None), which `rnn_cell`, `gru_cell` and
    `lstm_cell` take for zeros.

    The mask (batch, length) is True where the sequence has an entry. Where it is False, the state
    stays as it was, and y_t is 0. A state that is None counts as zeros there. Outputs and states
    begin with the axes of the batch. Batch norm in a cell counts padding, too.

    A compiled step has one loop there and one back, so compiling takes as long for a sequence of
    any length. It has the operations of each step in an exported file, where the sequence has fewer
    than 32 steps, if the state has another shape or dtype after a step, and before torch 2.13.

    Args:
        cell: a layer from (x_t, s_(t-1)) to s_t. The state is a tensor or a tuple of tensors.
        dim: the axis of the steps; 0 if the batch is the second axis, or there is none.
        reverse: whether to run from the last step to the first; y has the order of x.
        has_output: whether the cell returns (y_t, s_t) instead of s_t. y_t may be a tuple; then y
            is one, of the entries of all y_t.
        sequences: how many sequences of one length x begins with. With two, x is (a, b), (a, b,
            state) or (a, b, state, mask), and the cell gets ((a_t, b_t), s_(t-1)). The mask has the
            first axes of the first sequence.

    Returns:
        The layer, with the cell's params, whose state, such as a key, advances at each step.

    Source:
        Werbos, "Backpropagation Through Time: What It Does and How to Do It", 1990.

    Example:
        >>> net, x = scan(lf.gru_cell(8)), torch.zeros(2, 5, 3)
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 8])
    """
    make = partial(composition, parts=(cell,), arrange=ITS_PART, mask="state")
    return core.bare(
        make, there=there, back=_back, gather=_wiring.gather_uses, init=_init, advance=_advance
    )
