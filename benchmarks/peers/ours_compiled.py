"""lincoln_fn with its step compiled."""

from __future__ import annotations

from benchmarks.peers import Ways, ours
from benchmarks.workloads import Workload


def ways(workload: Workload, optimizer: str) -> Ways:
    """Give the one way."""
    return ours.ways(workload, optimizer, compiled=True)
