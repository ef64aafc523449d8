"""Compositions that say their wiring: which values each part reads. All their functions follow.

Combinators that run a part several times, or again on the way back, share `Kept` and `keep`.

The values v_1, ..., v_n are x, or each entry of x, and then the output v_i of each part i.

Derivation. The loss depends on v_j only through the parts that read it, so by the chain rule

    g_j = sum_(i "reads" j) ((dv_i)/(dv_j))^T g_i

Part i's own `backward` computes its term from g_i. From the last part to the first, each g_i is
whole before it is read, because every part that reads v_i comes after part i.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, TypeAlias

import attrs
import torch

from lincoln_fn import core, walk
from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params, check_cache, record, tree
from lincoln_fn.layers.common.open_dense import with_outputs
from lincoln_fn.walk import ENTRIES, Arrangement, VisitBack, VisitThere, check_entries
from lincoln_fn.walk.internal import Record, VisitRecord, on_meta, output_of


@record
class Kept:
    """What a layer that runs again keeps: tensors, and the params with their states advanced."""

    arrays: Arrays
    advanced: Params  # the trained tensors are the caller's: only the states take memory


def keep(visit: VisitThere, arrays: Arrays, params: Params, record: Record) -> Kept:
    """Keep tensors, and the params with the part's state advanced; None if it has no state."""
    is_still = visit.parts[0].advance is core.unchanged
    return Kept(arrays, None if is_still else visit.advance(0, params, record))


def wrong_output(visit: VisitThere, i: int, expected: str, got: object) -> LayerError:
    """Make the error about the output of a part; a shape is told as a tuple."""
    told = got if isinstance(got, torch.Size) else core.format_briefly(got)
    return core.unexpected(f"{visit.label}[{i}] {visit.parts[i].name}", expected, told)


def gather_uses(visit: VisitRecord, params: Params, records: Record) -> Params:
    """Add up the gradients of all uses of part 0, whose params are the composition's."""
    # From the last use to the first, as the walk back adds them up.
    return reduce(partial(tree.map, torch.add), (visit(0, params, r) for r in reversed(records)))


def with_states(visit: VisitThere, params: Params, cache: Kept) -> Params:
    """Return the params with the states that `cache.advanced` has: an `advance`."""
    check_cache(visit.label, cache, Kept)
    return tree.map(lambda _, trained: trained, cache.advanced, params)


def check_mirrors(label: str, g: Arrays, y: Arrays) -> None:
    """Check that a composition's g has the structure and the shapes of its y."""
    if not tree.same_structure(g, y):
        raise core.unexpected(label, f"g like y, {core.format_briefly(y)}", core.format_briefly(g))
    for given, cached in zip(tree.leaves(g), tree.leaves(y), strict=True):
        core.check_cotangent(label, given, cached)


# The number of a value, or those of a tuple of values.
Read: TypeAlias = int | tuple[int, ...]


@attrs.frozen
class Wiring:
    """Which values each part reads, and which are y."""

    reads: tuple[Read, ...]  # for each part, its x
    y: Read
    arrange: Arrangement = ENTRIES  # how params are made of those of the parts
    bare: tuple[int, ...] = ()  # the parts without params, which have no key
    entries: int | None = None  # how many x has, each a value; None if x is a value itself
    # The part, made by `open_dense`, that has as many outputs as x has features.
    open_part: int | None = None
    notes: int = 0  # how many entries the cache has beside the parts' records
    # For each part, the parts with params that it depends on.
    behind: tuple[tuple[int, ...], ...] = attrs.field(init=False, repr=False)

    @behind.default
    def _find_behind(self) -> tuple[tuple[int, ...], ...]:
        behind: list[tuple[int, ...]] = []
        for read in self.reads:
            parts = [j - self.first for j in _numbers(read) if j >= self.first]
            own = [i for i in parts if i not in self.bare]
            behind.append(tuple(dict.fromkeys((*own, *(k for i in parts for k in behind[i])))))
        return tuple(behind)

    @property
    def first(self) -> int:
        """The number of the first part's output."""
        return 1 if self.entries is None else self.entries

    def split(self, visit: VisitThere | VisitBack, params: Params) -> tuple[Params, ...]:
        """Return the params of each part, () for one without any; refuse other params."""
        if self.arrange in (ENTRIES, walk.ALL_BUT_LAST):
            check_entries(visit.label, "params", params, len(self.reads) - len(self.bare))
        return visit.made.split_params(params)

    def values_of(self, label: str, x: Arrays) -> tuple[Arrays, ...]:
        """Return the values that x consists of."""
        if self.entries is None:
            return (x,)
        check_entries(label, "x", x, self.entries)
        entries: tuple[Arrays, ...] = x
        return entries

    def inputs_of(self, i: int, parts: tuple[Layer, ...], values: Sequence[Arrays]) -> Arrays:
        """Return the x of part i."""
        return _read(self.reads[i], values)

    def value_of(self, part: Layer, y: Arrays) -> Arrays:
        """Return the value that others read of a part's output."""
        return y

    def g_of(self, part: Layer, g: Arrays) -> Arrays:
        """Return the gradient of a part's output, from that of its value."""
        return g

    def notes_of(self, values: Sequence[Arrays]) -> tuple[Record, ...]:
        """Return what the cache has beside the parts' records."""
        return ()

    def dx_of(self, i: int, part: Layer, dx: Arrays, notes: tuple[Record, ...]) -> Arrays:
        """Return the gradient of the values that part i reads, from the part's dx."""
        return dx

    def dx_of_x(self, gs: Sequence[Arrays]) -> Arrays:
        """Return dx from the gradients of the values that x consists of."""
        return gs[0] if self.entries is None else tuple(gs)


def in_turn(n: int) -> tuple[Read, ...]:
    """Let each of n parts read what the part before it gave (the first: value 0) and value 1."""
    return tuple((i + 1 if i else 0, 1) for i in range(n))


def _numbers(read: Read) -> tuple[int, ...]:
    return (read,) if isinstance(read, int) else read


def _read(read: Read, values: Sequence[Arrays]) -> Arrays:
    return values[read] if isinstance(read, int) else tuple(values[j] for j in read)


def _add(gs: list[Arrays], read: Read, d: Arrays) -> None:
    if not isinstance(read, int):
        for j, d_j in zip(read, d, strict=True):
            _add(gs, j, d_j)
    elif d is not None:
        gs[read] = d if gs[read] is None else core.add_trees(gs[read], d)


def there(visit: VisitThere, params: Params, x: Arrays, *, wiring: Wiring) -> tuple[Arrays, Record]:
    """Compute the output of each part from the values before it."""
    split = wiring.split(visit, params)
    values, records = [*wiring.values_of(visit.label, x)], []
    for i, entry in enumerate(split):
        y, record = visit(i, entry, wiring.inputs_of(i, visit.parts, values))
        values.append(wiring.value_of(visit.parts[i], y))
        records.append(record)
    return _read(wiring.y, values), (*records, *wiring.notes_of(values))


def back(
    visit: VisitBack, params: Params, cache: Cache, g: Arrays, *, wiring: Wiring
) -> tuple[Arrays, Record]:
    """Give each part its g, from the last to the first, and add up the dx of each value."""
    n, split = len(wiring.reads), wiring.split(visit, params)
    check_entries(visit.label, "the cache", cache, n + wiring.notes)
    if not isinstance(wiring.y, int):
        check_entries(visit.label, "g", g, len(wiring.y))
    gs: list[Arrays] = [None] * (wiring.first + n)
    _add(gs, wiring.y, g)
    records: list[Record] = [None] * n
    for i in reversed(range(n)):
        part = visit.parts[i]
        dx, records[i] = visit(i, split[i], cache[i], wiring.g_of(part, gs.pop()))
        if dx is not None:
            _add(gs, wiring.reads[i], wiring.dx_of(i, part, dx, cache[n:]))
    return wiring.dx_of_x(gs), tuple(records)


def init(
    parts: tuple[Layer, ...], key: Key, x: Arrays, *, label: str, wiring: Wiring,
    given: Mapping[int, Params] | None = None,
) -> Params:  # fmt: skip
    """Make the params of each part, from a key of its own; some may be given."""
    values = [*wiring.values_of(label, x)]
    params: list[Params] = [()] * len(parts)
    needed = max((j for read in wiring.reads for j in _numbers(read)), default=0)
    keys = iter(range(len(parts)))
    for i, part in enumerate(parts):
        inputs = wiring.inputs_of(i, parts, values)
        if any(j >= wiring.first for j in _numbers(wiring.reads[i])):
            inputs = on_meta(inputs)  # as the outputs among them are
        if i == wiring.open_part:
            part = with_outputs(x.shape[-1], part)
        if given is not None and i in given:
            params[i] = given[i]
        elif i not in wiring.bare:
            params[i] = part.init(key.fold_in(i if given is not None else next(keys)), inputs)
        if len(values) <= needed:
            y = output_of(part, params[i], inputs)
            values.append(on_meta(wiring.value_of(part, y)))
    return wiring.arrange.join(tuple(params), None)


def needs_dx(i: int, params: Params, *, wiring: Wiring) -> bool:
    """Return whether a part that part i depends on is trained."""
    behind = wiring.behind[i]
    split = wiring.arrange.split(params) if behind else ()
    return any(walk.is_trained(split[j]) for j in behind)


# Any: arguments of `composition`, by name.
def wired(
    label: str | Callable[..., Layer], parts: tuple[Layer, ...], wiring: Wiring, **options: Any
) -> Layer:
    """Make a composition of a wiring."""
    name = label if isinstance(label, str) else label.__name__
    own = {
        "init": partial(init, label=name, wiring=wiring),
        "needs_dx": partial(needs_dx, wiring=wiring),
        "arrange": wiring.arrange,
    }
    loops = partial(there, wiring=wiring), partial(back, wiring=wiring)
    return walk.composition(label, parts, *loops, **{**own, **options})
