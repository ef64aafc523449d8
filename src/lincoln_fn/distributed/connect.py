"""The processes of a run: those that torchrun has started, or this one alone; and their grid."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import attrs
import torch
import torch.distributed as dist

from lincoln_fn.core import Positive, PositiveInt, checked, unexpected
from lincoln_fn.distributed import lost
from lincoln_fn.distributed.group import Group
from lincoln_fn.runtime import share_cores


def alone() -> Group:
    """Make a group of one process, which sends nothing.

    Example:
        >>> alone()
        Group(0 of 1)
    """
    return Group(0, (0,))


def world() -> Group:
    """Return the group of all processes of a run whose process group exists already.

    Example:
        >>> world()
        Traceback (most recent call last):
        lincoln_fn.LayerError: world: expected a process group, got none; start the script \
by torchrun, and call it within lf.distributed.connect()
    """
    if not dist.is_available() or not dist.is_initialized():
        mend = "start the script by torchrun, and call it within lf.distributed.connect()"
        raise unexpected("world", "a process group", "none", mend)
    size = dist.get_world_size()
    return Group(dist.get_rank(), tuple(range(size)), dist.group.WORLD if size > 1 else None)


@contextmanager
@checked
def connect(*, backend: str | None = None, timeout: Positive = 600.0) -> Iterator[Group]:
    """Join the processes that torchrun has started; without torchrun, there is only this one.

    If torch has more threads than this process's share of the cores, it gets the share, unless
    OMP_NUM_THREADS is set.

    Args:
        backend: as torch.distributed names it. None is gloo and, where there are GPUs, nccl for
            what is on them.
        timeout: how many seconds a process waits for another at most.

    Yields:
        The group of all processes. It is left at the end, also after an error.

    Example:
        >>> with connect() as group:
        ...     print(group)
        Group(0 of 1)
    """
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE") == "1":
        yield alone()
        return
    chosen = backend or ("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    wait = timedelta(seconds=timeout)
    # Of this attempt: the addresses of processes that torchrun has ended must not be seen.
    store = lost.store_of_attempt(rank, wait)
    dist.init_process_group(chosen, store=store, rank=rank, world_size=size, timeout=wait)
    share_cores(int(os.environ.get("LOCAL_WORLD_SIZE", size)))
    heartbeat = lost.start(rank)
    try:
        yield attrs.evolve(world(), heartbeat=heartbeat, timeout=timeout)
    finally:
        heartbeat.stop()
        if dist.is_initialized():
            dist.destroy_process_group()


@checked
def grid(group: Group, columns: PositiveInt) -> tuple[Group, Group]:
    """Arrange processes in rows: rank r is in row r // columns and in column r % columns.

    The processes of a row divide a network, by layers or within them. Those of a column divide the
    examples. All processes call it.

    Returns:
        The processes of this one's row, and those of its column.

    Example:
        >>> grid(lf.distributed.alone(), 1)
        (Group(0 of 1), Group(0 of 1))
    """
    if group.size % columns:
        expected = f"a number of processes that is a multiple of {columns} columns"
        raise unexpected("grid", expected, group.size)
    begins = range(0, group.size, columns)
    rows = [group.subgroup(range(begin, begin + columns)) for begin in begins]
    lines = [group.subgroup(range(each, group.size, columns)) for each in range(columns)]
    row, column = (each for each in (*rows, *lines) if each is not None)  # this process's own
    return row, column
