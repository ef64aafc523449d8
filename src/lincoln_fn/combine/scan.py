"""A cell over a sequence: s_t = cell(x_t, s_(t-1)), with backpropagation through time.

    y_t, s_t = "cell"(x_t, s_(t-1))        for t from 1 to n

A recurrent cell returns s_t alone. Then y_t is the first tensor of s_t, as in an LSTM, whose state
is (h, c).

Derivation. s_t enters the cell at step t + 1, and y_t is an output. So the cell at step t gets g_t
for y_t, and for s_t the gradient that step t + 1 returns, from the last step to the first:

    dx_t, ds_(t-1) = "back"_(cell, t)(g_t, ds_t)

If y_t is a part of s_t, its two gradients are added up. The parameters enter every step:

    "dparams" = sum_t "dparams"_t

A state of the parameters, such as a key, advances from step to step.

Cache: the cache of each step, and the shapes of y and s_n.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial, reduce

import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn._mends import no_tuple
from lincoln_fn.arguments import checked
from lincoln_fn.combine._uses import check_mirrors, gather_uses
from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays, Cache, Layer, Params, call_repr, unchanged
from lincoln_fn.record import brief, record
from lincoln_fn.shapes import LayerError, check_axis
from lincoln_fn.walk.composition import composition
from lincoln_fn.walk.parts import check_entries, whole
from lincoln_fn.walk.visits import Record, VisitBack, VisitThere


@record
class Ends:
    """Stand-ins for y and the last state: their shapes, without memory of their own."""

    y: Arrays
    state: Arrays


def _there(
    visit: VisitThere, params: Params, x: Arrays, *, dim: int, reverse: bool, has_output: bool
) -> tuple[Arrays, Record]:
    """Compute y_t, s_t = cell(x_t, s_(t-1)) at each step."""
    sequence, state = _unpacked(x, dim)
    ys, records = [], []
    for x_t in _in_order(sequence.unbind(dim), reverse):
        made, record = visit(0, params, (x_t, state))
        params = visit.advance(0, params, record)
        y_t, state = _output_and_state(visit, made) if has_output else (_first(made), made)
        ys.append(y_t)
        records.append(record)
    outputs = torch.stack(_in_order(ys, reverse), dim)
    y = (outputs, state) if type(x) is tuple else outputs
    return y, (tuple(records), Ends(tree.map(_stand_in, y), tree.map(_stand_in, state)))


def _back(
    visit: VisitBack, params: Params, cache: Cache, g: Arrays,
    *, dim: int, reverse: bool, has_output: bool,
) -> tuple[Arrays, Record]:  # fmt: skip
    """Compute dx_t, ds_(t-1) = back(g_t, ds_t) at each step, from the last to the first."""
    check_entries(visit.label, "the cache", cache, 2)
    caches, ends = cache[0], cache[1]
    check_mirrors(visit.label, g, ends.y)
    is_tuple = type(ends.y) is tuple
    gs, ds = g if is_tuple else (g, tree.map(torch.zeros_like, ends.state))
    uses = _params_of_steps(visit, params, caches)
    dxs: list[Tensor] = []
    records: tuple[Record, ...] = ()
    for i, g_t in reversed([*enumerate(_in_order(gs.unbind(dim), reverse))]):
        made = (g_t, ds) if has_output else _added_to_first(ds, g_t)
        (dx_t, ds), record = visit(0, uses[i], caches[i], made)
        records = visit.add(record, records)
        dxs.append(dx_t)
    dx = None if dxs[0] is None else torch.stack(_in_order(dxs, not reverse), dim)
    return (dx, ds) if is_tuple else dx, records


def _params_of_steps(visit: VisitBack, params: Params, caches: Cache) -> list[Params]:
    """List the params that each step's forward had; their states differ."""
    if visit.parts[0].advance is unchanged:
        return [params] * len(caches)
    uses = [params]
    for cache in whole(caches)[:-1]:
        uses.append(visit.advance(0, uses[-1], cache))
    return uses


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays, *, dim: int, reverse: bool) -> Params:
    sequence, state = _unpacked(x, dim)
    return parts[0].init(key, (sequence.select(dim, -1 if reverse else 0), state))


def _advance(visit: VisitThere, params: Params, cache: Cache) -> Params:
    return reduce(partial(visit.advance, 0), cache[0], params)


def _unpacked(x: Arrays, dim: int) -> tuple[Tensor, Arrays]:
    """Return the sequence and the first state, None if it is not given."""
    sequence, state = x if type(x) is tuple and len(x) == 2 else (x, None)
    if not isinstance(sequence, Tensor):
        expected = "expected x to be a sequence or (sequence, state)"
        raise LayerError("scan", f"{expected}, got {no_tuple(x)}")
    check_axis("scan", sequence, dim)
    if not sequence.shape[dim]:
        problem = f"expected at least one step in axis {dim}, got {tuple(sequence.shape)}"
        raise LayerError("scan", problem)
    return sequence, state


def _output_and_state(visit: VisitThere, made: Arrays) -> tuple[Tensor, Arrays]:
    if type(made) is not tuple or len(made) != 2:
        where = f"{visit.label}[0] {visit.parts[0].name}"
        raise LayerError(where, f"expected the cell to return (y_t, s_t), got {brief(made)}")
    return made


def _first(state: Arrays) -> Tensor:
    first: Tensor = tree.leaves(state)[0]
    return first


def _added_to_first(state: Arrays, g: Tensor) -> Arrays:
    first = _first(state)
    return tree.map(lambda leaf: leaf + g if leaf is first else leaf, state)


def _in_order(steps: Iterable[Tensor], reverse: bool) -> list[Tensor]:
    return [*steps][::-1] if reverse else [*steps]


def _stand_in(leaf: Tensor) -> Tensor:
    return leaf.new_zeros(()).expand(leaf.shape)


@checked
def scan(cell: Layer, *, dim: int = 1, reverse: bool = False, has_output: bool = False) -> Layer:
    """Run a cell over a sequence: s_t = cell((x_t, s_(t-1))), and y_t is the first tensor of s_t.

    x is a sequence (batch, length, ...), and y is all y_t, stacked in the same axis. Or x is
    (sequence, state), and y is (all y_t, the last state). Without a state, the first step gets
    (x_1, None), which `rnn_cell`, `gru_cell` and `lstm_cell` take for zeros.

    Args:
        cell: a layer from (x_t, s_(t-1)) to s_t. The state is a tensor or a tuple of tensors.
        dim: the axis of the steps: 1, or 0 for a sequence whose batch is the second axis, or
            without a batch.
        reverse: whether to run from the last step to the first; y has the order of x.
        has_output: whether the cell returns (y_t, s_t) instead of s_t.

    Returns:
        The layer, whose params are the cell's own. A state of them, such as the key of dropout,
        advances at each step.

    Raises:
        LayerError: from its functions, if the cell raises one, x is not a sequence with at least
            one step, or the cell returns something else.

    Source:
        Werbos, "Backpropagation Through Time: What It Does and How to Do It", 1990.

    Example:
        >>> net, x = scan(lf.gru_cell(8)), torch.zeros(2, 5, 3)
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 8])
    """
    bound = partial(_there, dim=dim, reverse=reverse, has_output=has_output)
    return composition(
        "scan", (cell,), bound,
        partial(_back, dim=dim, reverse=reverse, has_output=has_output),
        gather=gather_uses, init=partial(_init, dim=dim, reverse=reverse), advance=_advance,
        call=partial(_call, dim=dim, reverse=reverse, has_output=has_output),
    )  # fmt: skip


def _call(parts: tuple[Layer, ...], *, dim: int, reverse: bool, has_output: bool) -> str:
    options = {"dim": (dim, 1), "reverse": (reverse, False), "has_output": (has_output, False)}
    return call_repr("scan", parts[0], **options)
