"""Processes that compute together, and what they send each other.

A `Group` is a value: what communicates takes it as an argument. torch.distributed does the work,
with gloo on CPUs and nccl on GPUs. A group of one process sends nothing.

Each wait is bounded. A process that is gone raises `LostProcessError` in all others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import ClassVar, Final

import attrs
import torch
import torch.distributed as dist
from torch import Tensor

from lincoln_fn.core import Positive, PositiveInt, check_not_transformed, checked, unexpected
from lincoln_fn.distributed import lost
from lincoln_fn.distributed.lost import Heartbeat, LostProcessError
from lincoln_fn.runtime import share_cores

# Stands for a group in the name of what takes one, which must not depend on its size.
GROUP: Final = "group"
# A tag: distinguishes messages of `gather` from those of `send`.
_GATHER: Final = 1


@attrs.frozen(eq=False, repr=False)
class Group:
    """Some processes, of which this one is number `rank`; made by `connect`, `world` or `alone`.

    Args:
        ranks: the numbers of its processes in the whole run.
        handle: torch's process group; None for a group of one process.
        heartbeat: says which process is gone; None if that is not known.
        timeout: how many seconds a process waits for another at most; None for torch's default.
    """

    in_calls: ClassVar = GROUP

    rank: int
    ranks: tuple[int, ...]
    handle: dist.ProcessGroup | None = None
    heartbeat: Heartbeat | None = None
    timeout: float | None = None

    @property
    def size(self) -> int:
        """The number of processes."""
        return len(self.ranks)

    def __repr__(self) -> str:
        return f"Group({self.rank} of {self.size})"

    def subgroup(self, positions: Sequence[int]) -> Group | None:
        """Make the group of some of the processes; all of them must call it, in the same order.

        `positions` are their ranks in this group, in any order. A process outside of it gets None.
        """
        positions = sorted(positions)
        if self.rank not in positions:
            return None
        ranks = tuple(self.ranks[i] for i in positions)
        handle: dist.ProcessGroup | None = None
        if self.handle is not None and len(ranks) > 1:
            # Other groups of a grid may be made at the same time: torch must not count them as one.
            wait = None if self.timeout is None else timedelta(seconds=self.timeout)
            made = dist.new_group([*ranks], timeout=wait, use_local_synchronization=True)
            assert isinstance(made, dist.ProcessGroup), "this process is in it"
            handle = made
        return attrs.evolve(self, rank=positions.index(self.rank), ranks=ranks, handle=handle)

    def duplicate(self) -> Group:
        """Make a group of the same processes, for communication beside that in this one."""
        return self.subgroup(range(self.size)) or self

    def gather(self, x: Tensor) -> Tensor:
        """Stack the tensors of all processes, of one shape and dtype, in the order of the ranks."""
        if self.handle is None:
            return x.unsqueeze(0)
        _check_not_transformed(x)
        result, own = x.new_empty((self.size, *x.shape)), x.contiguous()
        if x.is_meta:  # there are only shapes
            return result
        result[self.rank] = own
        others, handle = [i for i in range(self.size) if i != self.rank], self.handle
        # Faster than gloo's all_gather, which passes each tensor from process to process.
        sends = [(dist.isend, own, i) for i in others]
        calls = [*sends, *((dist.irecv, result[i], i) for i in others)]
        with self.waiting():
            works = [dist.P2POp(f, part, self.ranks[i], handle, _GATHER) for f, part, i in calls]
            for work in dist.batch_isend_irecv(works):
                work.wait()
        return result

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self.gather(torch.zeros(1))

    def agree(self, is_so: bool) -> bool:
        """Return, in all processes, whether `is_so` is true in each of them."""
        return bool(self.gather(torch.tensor(is_so)).all())

    def totals(self, numbers: Sequence[float]) -> list[float]:
        """Add up numbers, as many in each process, in the order of the ranks."""
        sums: list[float] = self.gather(torch.tensor(numbers, dtype=torch.float64)).sum(0).tolist()
        return sums

    def exchange(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """Send row i of a matrix to process i, and receive the row that is for this one.

        x has the shape (size, n); n may differ between processes, and `sizes` has that of each. The
        rows that are received come one after the other, of shape (sum of sizes,).
        """
        if self.handle is None:
            return x.flatten()
        _check_not_transformed(x)
        result = x.new_empty(sum(sizes))
        with self.waiting():
            dist.all_to_all_single(
                result, x.flatten(), list(sizes), [x.shape[1]] * self.size, group=self.handle
            )
        return result

    def sum_in_place(self, x: Tensor) -> Tensor:
        """Add up one tensor of each process, into x, in an order that depends on their number."""
        if self.handle is not None:
            _check_not_transformed(x)
            with self.waiting():
                dist.all_reduce(x, group=self.handle)
        return x

    def send(self, x: Tensor, to: int) -> dist.Work | None:
        """Begin to send a tensor to a process, which calls `receive`.

        x must stay as it is until `wait` of the result. `to` is the other's rank in this group.
        """
        _check_not_transformed(x)
        with self.waiting():
            return dist.isend(x.contiguous(), self.ranks[to], group=self.handle)

    def receive(self, like: Tensor, source: int) -> Tensor:
        """Wait for a tensor like another from the process of rank `source`, which calls `send`."""
        result = torch.empty_like(like, memory_format=torch.contiguous_format)
        with self.waiting():
            dist.recv(result, self.ranks[source], group=self.handle)
        return result

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Turn torch's error about a closed or lost connection into one that names the process."""
        try:
            yield
        except ValueError as error:
            expected = "a group whose connection is open"
            got = "one after its connect() ended"
            raise unexpected("Group", expected, got, "train within connect()") from error
        except RuntimeError as error:
            lost = () if self.heartbeat is None else self.heartbeat.find_lost(self.ranks)
            raise LostProcessError(lost, str(error).splitlines()[0]) from error


def _check_not_transformed(x: Tensor) -> None:
    mend = "compute the derivative in one process, or by backward"
    check_not_transformed("Group", "it is sent to another process", mend, (x,))


def check_divisible(layer: str, what: str, number: int, group: Group) -> None:
    """Check that the processes can have equal parts of something."""
    if number % group.size:
        expected = f"{what} to be a multiple of the {group.size} processes"
        mend = f"take a multiple, such as {(number // group.size + 1) * group.size}"
        raise unexpected(layer, expected, number, mend)


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
    OMP_NUM_THREADS is set. The group of all processes is left at the end, also after an error.

    Args:
        backend: as torch.distributed names it. None is gloo and, where there are GPUs, nccl for
            what is on them.
        timeout: how many seconds a process waits for another at most.

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
    examples. All processes call it, and get the group of their row and that of their column.

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
