"""How many of torch's threads a process should have. Not pure: they belong to the whole process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import torch

# The user who sets one of these has decided how many threads there are.
_NUMBER: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def count_cores() -> int:
    """Count the cores that this process may use, by its affinity and its control group's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    return max(1, min([cores, *map(int, _quotas(Path("/sys/fs/cgroup")))]))


def _quotas(root: Path) -> list[float]:
    """Read the quotas in cores of a control group, of version 2 or 1."""
    found = []
    for file in (root / "cpu.max", root / "cpu" / "cpu.cfs_quota_us"):
        try:
            words = file.read_text().split()
            if len(words) == 1:
                words.append(file.with_name("cpu.cfs_period_us").read_text())
            found.append(float(words[0]) / float(words[1]))
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
    return [quota for quota in found if quota > 0]


def share_cores(processes: int) -> None:
    """Set the number of torch's threads so that some processes together have one for each core.

    A number that the user has set by OMP_NUM_THREADS stays, and so does a smaller one.

    Args:
        processes: how many share the cores, this one included.
    """
    share = max(1, count_cores() // processes)
    if not any(name in os.environ for name in _NUMBER) and torch.get_num_threads() > share:
        torch.set_num_threads(share)
