"""The error of a process that is gone."""

from __future__ import annotations


class LostProcessError(ConnectionError):
    """A process of the group has ended, or has not answered in time.

    Args:
        ranks: the processes that are gone; () if it is not known which.
        cause: what torch reported.
    """

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
