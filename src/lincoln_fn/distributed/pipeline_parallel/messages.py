"""Messages between the processes of a pipeline: a header, and tensors.

The header has the shapes of the tensors, so the receiver needs to know none.

Threads send and receive while the process computes, one of each for each other process. Each wait
is bounded by the time that `connect` sets.

An error in one process ends the step in all. Each process sends its error to all others, and reads
until it has theirs. So all raise the same error, that of the lowest rank, and no message is left
for the next step.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, tree, unexpected
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.lost import ENCODED, decode, encode

# Any: what JSON can express.
Json: TypeAlias = Any


class Connections:
    """The messages of one step of a process, for use in a `with` block."""

    def __init__(self, group: Group, device: torch.device) -> None:
        self._group, self._device = group, device
        self._senders = defaultdict[int, ThreadPoolExecutor](lambda: ThreadPoolExecutor(1))
        self._receivers = defaultdict[int, ThreadPoolExecutor](lambda: ThreadPoolExecutor(1))
        self._sent: list[Future[None]] = []
        self._expected: dict[Hashable, Future[Arrays]] = {}
        # The errors of other processes, by their rank, with the rank where the error began.
        self._remote_errors: dict[int, tuple[int, Exception]] = {}

    def send(self, to: int, arrays: Arrays) -> None:
        """Begin to send a tensor, None, or a tuple of such; nobody may change them."""
        leaves, text = tree.leaves(arrays), json.dumps({"shapes": _shapes_of(arrays)})
        if len(text) > ENCODED:
            mend = "stack them, or cut the stages elsewhere"
            raise unexpected("pipeline", "an output of fewer tensors", len(leaves), mend)
        self._begin_to_send(to, text, leaves)

    def expect(self, source: int, keys: Iterable[Hashable]) -> None:
        """Begin to receive messages, named in the order in which the other process sends them."""
        for key in keys:
            self._expected[key] = self._receivers[source].submit(self._receive, source)

    def receive(self, key: Hashable) -> Arrays:
        """Wait for an expected message."""
        return self._expected.pop(key).result()

    def exchange(
        self, others: Collection[int], what: Hashable, arrays: Arrays
    ) -> dict[int, Arrays]:
        """Send arrays to other processes, and receive theirs, which do the same; own included."""
        for other in others:
            self.send(other, arrays)
            self.expect(other, [(what, other)])
        theirs = {other: self.receive((what, other)) for other in others}
        return {self._group.rank: arrays, **theirs}

    def __enter__(self) -> Connections:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Wait until everything is sent; after an error, end the step in all processes."""
        try:
            if error is None:
                for future in self._sent:
                    future.result()
        except Exception as failed:
            error = failed
        if error is not None:
            error = self._end_everywhere(error)
        for executor in (*self._senders.values(), *self._receivers.values()):
            executor.shutdown()
        if error is not None:
            raise error

    def _begin_to_send(self, to: int, header: str, leaves: list[Tensor]) -> None:
        self._sent.append(self._senders[to].submit(self._transmit, to, header, leaves))

    def _transmit(self, to: int, header: str, leaves: list[Tensor]) -> None:
        text = bytearray(header.encode().ljust(ENCODED))
        begin = torch.frombuffer(text, dtype=torch.uint8).to(self._device)
        works = [self._group.send(each, to) for each in (begin, *leaves)]
        with self._group.waiting():
            for work in works:
                if work is not None:
                    work.wait()

    def _receive(self, source: int) -> Arrays:
        """Receive a message, or raise the other process's error."""
        if source in self._remote_errors:
            raise self._remote_errors[source][1]
        like = torch.empty(ENCODED, dtype=torch.uint8, device=self._device)
        header = json.loads(self._group.receive(like, source).cpu().numpy().tobytes())
        if "error" in header:
            error = decode(*header["error"])
            self._remote_errors[source] = header["origin"], error
            raise error
        return self._receive_arrays(source, header["shapes"])

    def _receive_arrays(self, source: int, shapes: Json) -> Arrays:
        if shapes is None:
            return None
        if isinstance(shapes, dict):
            one = torch.empty((), dtype=getattr(torch, shapes["dtype"]), device=self._device)
            return self._group.receive(one.expand(shapes["shape"]), source)
        return tuple(self._receive_arrays(source, each) for each in shapes)

    def _end_everywhere(self, error: BaseException) -> BaseException:
        """Send an error to all processes, read theirs, and return the one that all raise."""
        rank, lost = self._group.rank, getattr(error, "ranks", ())
        origins = [origin for origin, other in self._remote_errors.values() if other is error]
        origin = min(origins, default=rank)
        header = json.dumps({"error": encode(error, rank), "origin": origin})
        others = [
            i for i, number in enumerate(self._group.ranks) if i != rank and number not in lost
        ]
        for other in others:
            self._begin_to_send(other, header, [])
        for future in [self._receivers[other].submit(self._drain, other) for other in others]:
            future.exception()
        for sending in self._sent:
            sending.exception()
        errors: list[tuple[int, BaseException]] = [(origin, error), *self._remote_errors.values()]
        return min(errors, key=lambda each: each[0])[1]

    def _drain(self, source: int) -> None:
        while True:
            self._receive(source)  # it raises that error


def _shapes_of(arrays: Arrays) -> Json:
    if isinstance(arrays, Tensor):
        return {"shape": list(arrays.shape), "dtype": str(arrays.dtype).removeprefix("torch.")}
    if arrays is None:
        return None
    if not isinstance(arrays, tuple):
        mend = "let the stage return a tensor or a tuple of tensors"
        raise unexpected("pipeline", "tensors between stages", type(arrays).__name__, mend)
    return [_shapes_of(each) for each in arrays]
