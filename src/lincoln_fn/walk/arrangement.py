"""Params of a composition, made of those of its parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import attrs

from lincoln_fn.core import Params, evolve

# Any: a visitor's record of a part, or the records that a loop returns.
Record: TypeAlias = Any
# Of each part; a composition's last parts may have none.
PartsParams: TypeAlias = tuple[Params, ...]


@attrs.frozen
class Arrangement:
    """How the params of a composition are made of those of its parts.

    Args:
        split: params -> the params of the parts, in their order. Parts at the end, such as a merge
            without params, may be left out.
        join: (parts' params, params) -> params. Those given are replaced; None if there are none
            yet, which matters only to a composition that has params of its own.
        is_around: whether it stands around one part, whose names its params have in a state dict.
        kind: the class of the params, if they are a record; others are refused.

    Example:
        >>> ENTRIES.join((1, 2), None), ENTRIES.split((1, 2))
        ((1, 2), (1, 2))
    """

    split: Callable[[Params], PartsParams]
    join: Callable[[PartsParams, Params], Params]
    is_around: bool = False
    kind: type | None = None


def _all(parts: PartsParams, params: Params) -> Params:
    return parts


def _all_but_last(parts: PartsParams, params: Params) -> Params:
    return parts[:-1] if params is None else parts[: len(params)]


def _of_one(params: Params) -> PartsParams:
    return (params,)


def _first(parts: PartsParams, params: Params) -> Params:
    return parts[0]


ENTRIES: Final = Arrangement(tuple, _all)
"""A tuple with one entry for each part."""

ALL_BUT_LAST: Final = Arrangement(tuple, _all_but_last)
"""A tuple with one entry for each part but the last, which has no params."""

ITS_PART: Final = Arrangement(_of_one, _first, is_around=True)
"""The params of the first part, the only one that has any."""


def fields(cls: type, *names: str | None, is_around: bool = False) -> Arrangement:
    """Arrange the params as a record, by its field for each part; None for a part without params.

    Fields without a part keep their values. `is_around` is as `Arrangement` has it.

    Example:
        >>> @lf.record
        ... class Pair:
        ...     first: object
        ...     second: object
        >>> fields(Pair, "second", None, "first").split(Pair(1, 2))
        (2, (), 1)
    """
    join = partial(_join_fields, cls=cls, names=names)
    return Arrangement(partial(_split_fields, names=names), join, is_around, cls)


def _split_fields(params: Params, *, names: tuple[str | None, ...]) -> PartsParams:
    return tuple(() if name is None else getattr(params, name) for name in names)


def visit_parts(
    arrangement: Arrangement,
    visit: Callable[[int, Params, Record], Params],
    params: Params,
    records: tuple[Record, ...],
) -> Params:
    """Join what visit(i, params of part i, record of part i) returns of each part with params."""
    pairs = enumerate(zip(arrangement.split(params), records, strict=False))
    return arrangement.join(tuple(visit(i, entry, record) for i, (entry, record) in pairs), params)


def gather_by(arrangement: Arrangement) -> Callable[..., Params]:
    """Make the function (visit, params, records) -> params that joins what is visited."""
    is_of_entries = arrangement in (ENTRIES, ALL_BUT_LAST)
    return gather_entries if is_of_entries else partial(visit_parts, arrangement)


def gather_entries(
    visit: Callable[[int, Params, Record], Params], params: Params, records: Record
) -> Params:
    """Return entry i of a tuple of params, for part i."""
    pairs = enumerate(zip(params, records, strict=False))
    return tuple(visit(i, entry, record) for i, (entry, record) in pairs)


# Any: a class of records.
def _join_fields(
    parts: PartsParams, params: Params, *, cls: Any, names: tuple[str | None, ...]
) -> Params:
    new = {name: part for name, part in zip(names, parts, strict=True) if name is not None}
    return cls(**new) if params is None else evolve(params, **new)
