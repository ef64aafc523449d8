"""Processes in rows and columns, for two kinds of parallelism at once."""

from __future__ import annotations

from lincoln_fn.core import LayerError, PositiveInt, checked
from lincoln_fn.distributed.group import Group


@checked
def grid(group: Group, columns: PositiveInt) -> tuple[Group, Group]:
    """Arrange processes in rows: rank r is in row r // columns and in column r % columns.

    The processes of a row divide a network, by layers or within them. Those of a column divide the
    examples.

    Args:
        group: all processes, which all call it.
        columns: how many processes are in a row.

    Returns:
        The processes of this one's row, and those of its column.

    Raises:
        LayerError: if the number of processes is not a multiple of columns.

    Example:
        >>> grid(lf.distributed.alone(), 1)
        (Group(0 of 1), Group(0 of 1))
    """
    if group.size % columns:
        problem = f"expected a number of processes that is a multiple of {columns} columns"
        raise LayerError("grid", f"{problem}, got {group.size}")
    begins = range(0, group.size, columns)
    rows = [group.subgroup(range(begin, begin + columns)) for begin in begins]
    lines = [group.subgroup(range(each, group.size, columns)) for each in range(columns)]
    row, column = rows[group.rank // columns], lines[group.rank % columns]
    assert row is not None, "this process is in its own row"
    assert column is not None, "this process is in its own column"
    return row, column
