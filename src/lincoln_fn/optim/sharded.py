"""An optimizer whose state is divided among processes: the first stage of ZeRO.

Each process updates its slice of the parameters, and holds the state of that slice alone. Then all
collect the new slices. With n processes, each holds 1 / n of the state, and does 1 / n of the work.

Slices. The N numbers of all leaves form one row, and process r of n has those from N r / n up to
N (r + 1) / n. A leaf's slice is a vector, which is empty if another process has all of the leaf.

Source: Rajbhandari and others, "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models", SC 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lincoln_fn.core import Key, LayerError, Params, checked, keys, record, static, tree, unexpected
from lincoln_fn.optim.leaves import check_state
from lincoln_fn.optim.optimizer import Optimizer, OptimizerState


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


@record
class ShardedState:
    """The inner optimizer's state for this process's slices; all parameters' paths and sizes."""

    inner: OptimizerState
    names: tuple[str, ...] = static()
    sizes: tuple[int, ...] = static()


@checked
def sharded(optimizer: Optimizer, group: Processes) -> Optimizer:
    """Divide an optimizer's state among processes: ZeRO-1.

    All numbers of all parameters are divided equally, also within a parameter. The parameters and
    the gradients stay whole. The new parameters have the bits that `optimizer` alone gives.

    Args:
        optimizer: one that updates each number by itself, such as `adamw`. What looks at several
            numbers, such as `clip_by_global_norm`, goes before: `chain(clip_by_global_norm(1.0),
            sharded(adamw(1e-3), group))`.
        group: the processes, such as `distributed.world()`.

    Example:
        >>> optimizer = lf.optim.sharded(lf.optim.adamw(0.1), lf.distributed.alone())
        >>> optimizer, optimizer.init({"weight": torch.zeros(2, 3)}).inner.m
        (sharded(adamw(0.1), group), {'weight': tensor([0., 0., 0., 0., 0., 0.])})
    """
    _check_elementwise(optimizer)
    return Optimizer(
        f"sharded({optimizer.name}, group)",
        partial(_init, optimizer, group),
        partial(_update, optimizer, group),
        "its state is divided among processes; one process takes the same steps with the optimizer "
        "inside it",
    )


def _init(optimizer: Optimizer, group: Processes, params: Params) -> ShardedState:
    sizes = tuple(leaf.numel() for leaf in tree.leaves(params))
    return ShardedState(optimizer.init(_cut(params, group)), tuple(tree.paths(params)), sizes)


def _update(
    optimizer: Optimizer, group: Processes, params: Params, grads: Params, state: ShardedState
) -> tuple[Params, ShardedState]:
    """Update this process's slices, and collect those of the others."""
    check_state("sharded", state, ShardedState)
    new, inner = optimizer.update(_cut(params, group), _cut(grads, group), state.inner)
    leaves = tree.leaves(params)
    whole = iter(join(tree.leaves(new), [leaf.shape for leaf in leaves], group))
    # The memory layout stays, on which the bits of a product can depend.
    params = tree.map(lambda p: torch.empty_like(p).copy_(next(whole)), params)
    return params, ShardedState(inner, state.names, state.sizes)


def _cut(params: Params, group: Processes) -> Params:
    return tree.unflatten(params, cut(tree.leaves(params), group))


def _check_elementwise(optimizer: Optimizer) -> None:
    """Check that slices that are updated alone are those of the whole."""
    numbers = keys.normal(Key(0), (2, 12)) * 10.0 ** torch.arange(-3, 3).repeat(2)

    def halves(row: Tensor) -> tuple[Params, Params]:
        return {"bias": row[:0], "weight": row[:6]}, {"bias": row[8:], "weight": row[6:8]}

    def update(params: Params, grads: Params) -> tuple[list[Tensor], list[Tensor]]:
        """Compute new parameters, and what is kept of all together: a count, but no sum."""
        state = optimizer.init(params)
        for _ in range(3):  # after two, `sam` would be back
            params, state = optimizer.update(params, grads, state)
        kept = [leaf for leaf in tree.leaves(state) if not leaf.ndim]
        return [leaf.flatten() for leaf in tree.leaves(params)], kept

    expected = "an optimizer that updates each number by itself"
    mend = "put what uses several numbers before it: chain(..., sharded(adamw(1e-3), group))"
    whole = ({"bias": row[8:], "weight": row[:8].view(2, 4)} for row in numbers)
    try:
        (new, kept), (*parts,) = update(*whole), map(update, *map(halves, numbers))
    except LayerError as error:
        raise unexpected("sharded", expected, f"{optimizer} ({error})", mend) from error
    joined = [*map(torch.cat, zip(*(leaves for leaves, _ in parts), strict=True))]
    for given, of_parts in ((new, joined), *((kept, own) for _, own in parts)):
        if not all(map(torch.equal, given, of_parts)):
            raise unexpected("sharded", expected, optimizer, mend)


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
