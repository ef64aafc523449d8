"""Slices of parameters, one for each process, of equal length.

The N numbers of all leaves form one row, and process r of n has those from N r / n up to
N (r + 1) / n. A leaf's slice is a vector, which is empty if another process has all of the leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Processes(Protocol):
    """What is needed of a `distributed.Group`."""

    @property
    def rank(self) -> int:
        """The number of this process."""

    @property
    def size(self) -> int:
        """The number of processes."""

    def gather(self, x: Tensor) -> Tensor:
        """Collect one tensor of each process."""


def spans(sizes: Sequence[int], rank: int, size: int) -> list[tuple[int, int]]:
    """Return where a process's slice of each leaf begins and ends."""
    total = sum(sizes)
    first, end = total * rank // size, total * (rank + 1) // size
    starts = [*accumulate(sizes, initial=0)]
    return [
        (min(max(first - start, 0), n), min(max(end - start, 0), n)) if n else (0, 0)
        for start, n in zip(starts, sizes, strict=False)
    ]


def cut(leaves: Sequence[Tensor], processes: Processes) -> list[Tensor]:
    """Cut this process's slices, vectors that may be empty, out of whole tensors."""
    own = spans([leaf.numel() for leaf in leaves], processes.rank, processes.size)
    return [
        leaf.reshape(-1)[begin:end].clone() for leaf, (begin, end) in zip(leaves, own, strict=True)
    ]


def join(
    slices: Sequence[Tensor], shapes: Sequence[torch.Size], processes: Processes
) -> list[Tensor]:
    """Make whole tensors, each in memory of its own, of the slices of all processes."""
    whole = [each.new_empty(shape) for each, shape in zip(slices, shapes, strict=True)]
    sizes = [leaf.numel() for leaf in whole]
    of_ranks = [spans(sizes, rank, processes.size) for rank in range(processes.size)]
    for dtype in dict.fromkeys(each.dtype for each in slices):
        places = [i for i, each in enumerate(slices) if each.dtype is dtype]
        lengths = [sum(own[i][1] - own[i][0] for i in places) for own in of_ranks]
        sent = slices[places[0]].new_zeros(max(lengths))
        sent[: lengths[processes.rank]] = torch.cat([slices[i] for i in places])
        for own, row in zip(of_ranks, processes.gather(sent), strict=True):
            at = 0
            for i in places:
                begin, end = own[i]
                whole[i].view(-1)[begin:end] = row[at : at + end - begin]
                at += end - begin
    return whole


def slice_rows(leaves: Sequence[Tensor], size: int) -> Tensor:
    """Make a matrix with a row for each process: its slices of the tensors, then zeros."""
    sizes = [leaf.numel() for leaf in leaves]
    rows = leaves[0].new_zeros((size, -(-sum(sizes) // size)))
    for rank, row in enumerate(rows):
        own = zip(leaves, spans(sizes, rank, size), strict=True)
        numbers = torch.cat([leaf.reshape(-1)[begin:end] for leaf, (begin, end) in own])
        row[: len(numbers)] = numbers
    return rows


def split_row(row: Tensor, leaves: Sequence[Tensor], processes: Processes) -> list[Tensor]:
    """Divide a row of `slice_rows` into this process's slice of each tensor."""
    own = spans([leaf.numel() for leaf in leaves], processes.rank, processes.size)
    lengths = [end - begin for begin, end in own]
    return list(torch.split(row[: sum(lengths)], lengths))
