"""Whether a tracer sees what is computed, and whether another process will run its graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from lincoln_fn.core.autodiff import is_transformed


def is_traced(*tensors: Tensor | None) -> bool:
    """Return whether a tracer sees what is computed from the tensors."""
    return torch.compiler.is_compiling() or FakeTensor in map(type, tensors)


def is_plain(*tensors: Tensor | None) -> bool:
    """Return whether no autograd, torch.func or tracer sees what is computed from the tensors."""
    return not (is_transformed(*tensors) or is_traced(*tensors))


class RunsHere(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch's own
    """The mode of fake tensors for a step that will run in this process, and not be exported."""

    # Whether the compiler supports loops whose body is traced once (loops.py).
    has_loops = False
    supports_higher_order_operators = True

    def __init__(self, **options: Any) -> None:  # Any: torch's own
        super().__init__(**options)
        # Losses of steps within the function. Where one is not finite, the function is run as it
        # is, so that its step raises the error.
        self.losses: list[Tensor] = []


def runs_here(x: Tensor) -> bool:
    """Return whether x's step runs in this process, which knows this library's operations."""
    return not isinstance(x, FakeTensor) or isinstance(x.fake_mode, RunsHere)


def losses_of(x: Tensor) -> list[Tensor]:
    """Return the list of losses of x's tracer; an empty one if there is no tracer."""
    mode = x.fake_mode if isinstance(x, FakeTensor) else None
    return mode.losses if isinstance(mode, RunsHere) else []
