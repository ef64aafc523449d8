"""Whether a tracer sees what is computed, and whether another process will run its graph."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


def is_traced(*tensors: Tensor | None) -> bool:
    """Return whether a tracer sees what is computed from the tensors."""
    return torch.compiler.is_compiling() or FakeTensor in map(type, tensors)


class RunsHere(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch's own
    """The mode of fake tensors for a step that will run in this process, and not be exported."""

    # Whether the compiler supports loops whose body is traced once (loops.py).
    has_loops = False
    supports_higher_order_operators = True


def runs_here(x: Tensor) -> bool:
    """Return whether x's step runs in this process, which knows this library's operations."""
    return not isinstance(x, FakeTensor) or isinstance(x.fake_mode, RunsHere)
