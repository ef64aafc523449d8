"""The peers: each trains the same networks in its own way.

A peer's module has `ways(workload, optimizer)`: functions that each make a `Way` of taking steps
from the initial weights, of which the fastest takes part. It raises `AbsentError` where the peer is
not installed or lacks a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

# Each peer's module, and what the tables call it.
PEERS = {
    "ours": "ours eager",
    "ours_compiled": "ours compiled",
    "torch_eager": "torch eager",
    "torch_tuned": "torch tuned",
    "torch_compile": "torch.compile",
    "jax": "JAX",
    "thinc": "Thinc",
    "tinygrad": "tinygrad",
    "floor": "floor",
}
OURS = ("ours", "ours_compiled")
BASELINE = "torch_eager"
FLOOR = "floor"


class AbsentError(Exception):
    """A peer cannot take part, and why."""


class Way(NamedTuple):
    """A way to take steps, and in words which one it is and of what version.

    `step` takes one on the next batch and returns its loss as a Python number: it is read back
    after each step, as a loop that logs it does.
    """

    step: Callable[[], float]
    what: str


Ways: TypeAlias = Sequence[Callable[[], Way]]
