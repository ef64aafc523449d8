"""Processes that are gone: how the others find that out, and the errors that they send, as JSON.

Each process shows that it is alive by counting in a shared store. This is the impure edge of
`group`: a thread and a connection for each process, from `start` to `stop`.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Final

import attrs

# torch exports these where it is built with distributed, which types cannot express.
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from lincoln_fn.core import LayerError, NonFiniteError

_ERRORS: Final = {"LayerError": LayerError, "NonFiniteError": NonFiniteError}
ENCODED: Final = 2048  # bytes that are enough for an error
_LONGEST: Final = ENCODED // 5  # characters of a text; of two, each may become two bytes
# Seconds between two beats, and how long one must be missing until its process is called lost.
INTERVAL: Final = 0.5
PATIENCE: Final = 4.0
# How long the store may take for all that is asked to find a lost process.
ANSWERED: Final = 12.0


class LostProcessError(ConnectionError):
    """Processes of the group have ended, or not answered: these `ranks`; () if not known which."""

    def __init__(self, ranks: tuple[int, ...], cause: str) -> None:
        super().__init__(ranks, cause)
        self.ranks = ranks
        self.cause = cause

    def __str__(self) -> str:
        if not self.ranks:
            return f"a process of the group has not answered in time: {self.cause}"
        names = ", ".join(map(str, self.ranks))
        gone = f"rank {names} is gone" if len(self.ranks) == 1 else f"ranks {names} are gone"
        return f"{gone}; start the run again from its last checkpoint"


def encode(error: BaseException, rank: int) -> list[object]:
    """Describe an error of a process."""
    if isinstance(error, LostProcessError):
        return ["LostProcessError", error.ranks, _short(error.cause)]
    if isinstance(error, LayerError):
        return [type(error).__name__, _short(error.where), _short(error.problem)]
    return ["LayerError", f"rank {rank}", _short(f"{type(error).__name__}: {error}")]


def _short(text: str) -> str:
    return text.encode("ascii", "replace").decode()[:_LONGEST]


def decode(kind: str, where: str | list[int], problem: str) -> Exception:
    """Make the error that was described."""
    if isinstance(where, list):
        return LostProcessError(tuple(where), problem)
    return _ERRORS.get(kind, LayerError)(where, problem)


@attrs.frozen(eq=False)
class Heartbeat:
    """The beats of the processes of a run; `keeps_store` is true in the one that has the store."""

    rank: int
    store: PrefixStore
    keeps_store: bool
    ends: threading.Event = attrs.field(factory=threading.Event)
    # The ranks that are lost, once a process has found them.
    answer: list[tuple[int, ...]] = attrs.field(factory=list)

    def beat(self) -> None:
        """Count, and read who is lost, until `stop` is called."""
        for count in itertools.count(1):
            try:
                self.store.set(f"beat/{self.rank}", str(count))
                if self.store.check(["lost"]):
                    self._record_answer(self.store.get("lost"))
            except RuntimeError:  # the process that keeps the store has ended
                return
            if self.ends.wait(INTERVAL):
                return

    def stop(self) -> None:
        """End the thread."""
        self.ends.set()

    def find_lost(self, ranks: Collection[int]) -> tuple[int, ...]:
        """Return those of some ranks that no longer beat; it takes some seconds."""
        # The store does not answer, and its client waits for ever, if its process was stopped.
        answers: list[tuple[int, ...]] = []
        asking = threading.Thread(target=lambda: answers.append(self._ask(ranks)), daemon=True)
        asking.start()
        asking.join(ANSWERED)
        return answers[0] if answers else self._without_store()

    def _without_store(self) -> tuple[int, ...]:
        """Return who is lost if the store is: rank 0 keeps it, unless torchrun does."""
        return self.answer[0] if self.answer else (0,) if self.rank else ()

    def _ask(self, ranks: Collection[int]) -> tuple[int, ...]:
        # All processes get the answer of the first one.
        try:
            silent = self._silent(ranks)
            if not silent:
                return ()
            names = " ".join(map(str, sorted(silent)))
            self._record_answer(self.store.compare_set("lost", "", names))
        except RuntimeError:
            return self._without_store()
        if self.keeps_store:  # until the others have confirmed that they know who is lost
            others = [f"confirmed/{rank}" for rank in set(ranks) - {*self.answer[0]}]
            self._wait_until(lambda: self.store.check(others))
        return self.answer[0]

    def _record_answer(self, lost: bytes) -> None:
        """Record who is lost, and confirm it to the process that keeps the store."""
        if not self.answer:
            self.answer.append(tuple(map(int, lost.split())))
            self.store.set(f"confirmed/{self.rank}", "")

    def _wait_until(self, is_known: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not is_known():
            self.ends.wait(INTERVAL / 5)

    def _silent(self, ranks: Collection[int]) -> set[int]:
        first = {rank: self._count(rank) for rank in ranks}
        silent = set(ranks) - {self.rank}

        def is_known() -> bool:
            silent.difference_update([r for r in silent if self._count(r) != first[r]])
            return not silent or self.store.check(["lost"])  # another process may have found it

        self._wait_until(is_known)
        return silent

    def _count(self, rank: int) -> bytes:
        key = f"beat/{rank}"
        return self.store.get(key) if self.store.check([key]) else b""


def store_of_attempt(rank: int, wait: timedelta) -> PrefixStore:
    """Connect to the store of torchrun or rank 0, for this attempt: torchrun counts restarts."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(
        address, port,
        is_master=_keeps_store(rank), wait_for_workers=False, timeout=wait, multi_tenant=True,
    )  # fmt: skip
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"lincoln_fn/{attempt}", store)


def _keeps_store(rank: int) -> bool:
    return rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def start(rank: int) -> Heartbeat:
    """Begin to beat, in a connection of its own to the store, until `stop`."""
    store = PrefixStore("heartbeat", store_of_attempt(rank, timedelta(seconds=30)))
    heartbeat = Heartbeat(rank, store, _keeps_store(rank))
    threading.Thread(target=heartbeat.beat, daemon=True).start()
    return heartbeat
