"""Layers that communicate in the middle of a pass, when one process computes several shards.

Such shards are computed at the same time, each by a thread. In a layer that communicates, the
threads meet: each brings its tensor, and leaves with those of all shards of all processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from threading import Barrier, BrokenBarrierError
from typing import Any, TypeVar

import torch
from torch import Tensor

from lincoln_fn.core import Layer, made_by
from lincoln_fn.distributed.data_parallel.shards import Shards
from lincoln_fn.distributed.data_parallel.sync_batch_norm import sync_batch_norm, with_gather
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.sharding.fully_sharded import collect_once, is_fully_sharded
from lincoln_fn.walk.internal import composition_of

T = TypeVar("T")


class Meeting:
    """Where the threads of a process's shards exchange tensors."""

    def __init__(self, group: Group, shards: Shards) -> None:
        self._group = group
        self._own = shards.own
        self._brought: dict[int, Tensor] = {}
        self._compute: Callable[[], Any]  # Any: each meeting computes something else
        self._result: Any  # Any: likewise
        self._barrier = Barrier(len(shards.own), self._act)

    def gather(self, shard: int, x: Tensor) -> Tensor:
        """Give the tensor of a shard, and return those of all shards."""
        self._brought[shard] = x
        everyone: Tensor = self.once(self._exchange)
        return everyone

    def _exchange(self) -> Tensor:
        own = torch.stack([self._brought[shard] for shard in self._own])
        return self._group.gather(own).flatten(0, 1)

    def once(self, compute: Callable[[], T]) -> T:
        """Wait for the other threads; one of them computes the result of all."""
        self._compute = compute
        self._barrier.wait()
        result: T = self._result  # the next one is computed when all threads have come back
        return result

    def _act(self) -> None:
        self._result = self._compute()

    def run(self, threads: Executor, compute: Callable[[int], None], own: Iterable[int]) -> None:
        """Compute all shards at the same time; an error in one ends all."""
        futures = [threads.submit(self._run_shard, compute, shard) for shard in own]
        errors = [error for error in (future.exception() for future in futures) if error]
        self._barrier.reset()
        for error in sorted(errors, key=lambda error: isinstance(error, BrokenBarrierError)):
            raise error

    def _run_shard(self, compute: Callable[[int], None], shard: int) -> None:
        try:
            compute(shard)
        except BaseException:
            self._barrier.abort()
            raise


def is_synchronised(net: Layer) -> bool:
    """Return whether a layer of a network needs the other shards in the middle of a pass."""
    return made_by(net, sync_batch_norm) or any(is_synchronised(part) for part in net.parts)


def communicates(net: Layer) -> bool:
    """Return whether any function of a network sends something: of what is made for a group."""
    made, arguments = composition_of(net), {} if net.spec is None else net.spec.arguments
    if made is not None and (is_fully_sharded(made) or "group" in arguments):
        return True
    return made_by(net, sync_batch_norm) or any(map(communicates, net.parts))


def synchronise(net: Layer, meeting: Meeting, shard: int) -> Layer:
    """Make the network of one shard, whose layers meet those of the other shards."""
    made = composition_of(net)
    if made is None:
        is_sync = made_by(net, sync_batch_norm)
        return with_gather(net, partial(meeting.gather, shard)) if is_sync else net
    parts = tuple(synchronise(part, meeting, shard) for part in made.parts)
    if is_fully_sharded(made):
        return collect_once(net, parts[0], meeting.once)
    return net.rebuild(parts)
