"""Attention between projections, of parts that are layers: the forms of x, and the walks.

The parts are the projections of query, key and value, the heads, and the projection of the output.
There may be four more before the heads: the norms of queries and of keys, and their positions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from jaxtyping import Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Layer, Params, Sequence, Spec, record, static
from lincoln_fn.layers.attention_heads import merge_heads, split_heads
from lincoln_fn.layers.common.attention import Mask, check_mask, check_sequences
from lincoln_fn.walk import VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record, visit_parts

Positions: TypeAlias = Int[Tensor, "*batch length"]
Inputs: TypeAlias = (
    Sequence
    | tuple[Sequence, Mask | None]
    | tuple[Sequence, Mask | None, Positions | None]
    | tuple[Sequence, Sequence, Sequence]
    | tuple[Sequence, Sequence, Sequence, Mask | None]
)
# As `Inputs`, and None for positions and for a mask that is not floating.
Gradients: TypeAlias = Tensor | tuple[Tensor | None, ...]


@record
class Form:
    """The form of x: its number of entries, 0 for no tuple, and which axes its parts have."""

    entries: int = static()
    is_self: bool = static()
    is_padding: bool = static()
    batch_first: bool = static()


class Given(NamedTuple):
    """Query, key and value, batch first, the mask and positions of all heads, and the form of x."""

    sequences: tuple[Sequence, Sequence, Sequence]
    mask: Mask | None
    positions: Positions | None
    form: Form


@record
class Cache:
    """The caches of the parts, in their order, the form of x, and what y is like."""

    parts: tuple[Record, ...]
    form: Form
    y: core.Like = static()


def parts_of(
    label: str, x: core.Arrays, *, batch_first: bool = True, takes_positions: bool = True
) -> Given:
    """Find query, key and value, the mask and the positions in x, and check that they fit."""
    entries = x if isinstance(x, tuple) else (x,)
    count = len(entries)
    if not 1 + isinstance(x, tuple) <= count <= 4:
        forms = "a sequence, (sequence, mask), (sequence, mask, positions), (query, key, value)"
        forms = forms if takes_positions else forms.replace(" (sequence, mask, positions),", "")
        wanted = f"x to be {forms} or (query, key, value, mask)"
        raise core.unexpected(label, wanted, core.format_briefly(x))
    may_be_positions = entries[1] is None or _are_positions(entries[2]) if count == 3 else False
    is_self = count <= 2 or (takes_positions and may_be_positions)
    mask, positions = (*entries[1:], None, None)[:2] if is_self else ((*entries, None)[3], None)
    sequences = (entries[0],) * 3 if is_self else entries[:3]
    if not batch_first:
        sequences = tuple(map(_batch_first, sequences))
    check_sequences(label, sequences)
    query, key, _ = sequences
    is_padding = isinstance(mask, Tensor) and mask.ndim == query.ndim - 1
    if is_padding:
        check_mask(label, mask, query, (*query.shape[:-2], key.shape[-2]))
        mask = mask[..., None, None, :]
    if positions is not None:
        if not _are_positions(positions) or positions.ndim == 0:
            wanted = "positions to be integers of shape (..., length)"
            raise core.unexpected(label, wanted, core.format_briefly(positions))
        positions = positions.unsqueeze(-2)
    form = Form(count if isinstance(x, tuple) else 0, is_self, is_padding, batch_first)
    return Given(sequences, mask, positions, form)


def there(
    visit: VisitThere, params: Params, x: Inputs, *, find: Callable[[Inputs], Given],
    counts: tuple[int, int],
) -> tuple[Sequence, Cache]:  # fmt: skip
    """Pass the projections' heads through norms and positions to the heads, and on to the last."""
    split, given = visit.made.split_params(params), find(x)
    records: list[Record] = []
    last = len(split) - 1

    def run(i: int, x: core.Arrays) -> core.Arrays:
        y, part = visit(i, split[i], x)
        records.append(part)
        return y

    def placed(heads: Tensor) -> core.Arrays:
        return heads if given.positions is None else (heads, given.positions)

    q, k, v = (run(i, sequence) for i, sequence in enumerate(given.sequences))
    if last > 4:
        q, k = split_heads(q, counts[0]), split_heads(k, counts[1])
        q, k = run(3, q), run(4, k)
        q, k = run(5, placed(q)), run(6, placed(k))
        q, k = merge_heads(q), merge_heads(k)
    y = run(last, run(last - 1, (q, k, v, given.mask)))
    y = _given_order(y, given.form)
    return y, Cache(tuple(records), given.form, core.Like.of(y))


def back(
    visit: VisitBack, params: Params, cache: Cache, g: Sequence, *, counts: tuple[int, int]
) -> tuple[Gradients | None, tuple[Record, ...]]:
    """Take g back to the heads, and their dx through positions and norms to the projections."""
    split = visit.made.split_params(params)
    core.check_cache(visit.label, cache, Cache)
    check_entries(visit.label, "a cache of parts", cache.parts, len(visit.parts))
    core.check_cotangent(visit.label, g, cache.y)
    last = len(split) - 1
    records: list[Record] = [None] * len(split)

    def run(i: int, g: core.Arrays) -> core.Arrays:
        dx, records[i] = visit(i, split[i], cache.parts[i], g)
        return dx

    def of_heads(dx: core.Arrays) -> core.Arrays:
        return dx[0] if isinstance(dx, tuple) else dx

    g = g if cache.form.batch_first else _batch_first(g)
    dq, dk, dv, dmask = run(last - 1, run(last, g))
    if last > 4:
        dq, dk = split_heads(dq, counts[0]), split_heads(dk, counts[1])
        dq, dk = run(5, dq), run(6, dk)
        dq, dk = run(3, of_heads(dq)), run(4, of_heads(dk))
        dq, dk = merge_heads(dq), merge_heads(dk)
    dsequences = run(0, dq), run(1, dk), run(2, dv)
    dx = None if dsequences[0] is None else _mirrored(cache.form, dsequences, dmask)
    return dx, tuple(records)


def _mirrored(
    form: Form, dsequences: tuple[Tensor, Tensor, Tensor], dmask: Tensor | None
) -> Gradients:
    """Put the gradients of query, key, value and mask into x's form."""
    if dmask is not None and form.is_padding:
        dmask = dmask[..., 0, 0, :]
    dquery, dkey, dvalue = dsequences
    summed = (dquery + dkey + dvalue,) if form.is_self else dsequences
    dx = tuple(_given_order(d, form) for d in summed)
    return (*dx, dmask, None)[: form.entries] if form.entries else dx[0]


def _batch_first(x: core.Arrays) -> core.Arrays:  # the checks refuse all else
    return x.movedim(0, -2) if isinstance(x, Tensor) and x.ndim > 2 else x


def _given_order(y: Sequence, form: Form) -> Sequence:
    return y if form.batch_first else y.movedim(-2, 0)


def _are_positions(x: object) -> bool:
    return x is None or (isinstance(x, Tensor) and not x.is_floating_point())


def _advance(visit: VisitThere, params: Params, cache: Cache) -> Params:
    return visit_parts(visit.made.arrange, visit.advance, params, cache.parts)


def _needs_dx(i: int, params: Params) -> bool:
    return i >= 3


# Any: arguments of `composition`, by name.
def attention_of(
    call: Spec, *, find: Callable[[Inputs], Given], counts: tuple[int, int], **options: Any
) -> Layer:
    """Make the composition of five parts, or nine; `counts` are the heads of queries and keys."""
    return composition(
        call.of.__name__, there=partial(there, find=find, counts=counts),
        back=partial(back, counts=counts), advance=_advance, needs_dx=_needs_dx, mask="sequence",
        call=call, **options,
    )  # fmt: skip
