"""Who sees what is computed: the caller alone, a transform or tracer, another process."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.forward_ad import unpack_dual
from torch.func import debug_unwrap


def is_plain(*tensors: Tensor | None) -> bool:
    """Return whether no autograd, torch.func or tracer sees what is computed from the tensors.

    oneDNN's operations have no derivative, which torch does not report.
    """
    if torch.compiler.is_compiling():
        return False
    is_recorded = torch.is_grad_enabled()
    for t in tensors:  # a generator would take twice as long, which shows in a small step
        if t is not None and (
            isinstance(t, FakeTensor)
            or (is_recorded and t.requires_grad)
            or debug_unwrap(t, recurse=False) is not t
            or unpack_dual(t).tangent is not None  # type: ignore[no-untyped-call]  # torch's own
        ):
            return False
    return True


class RunsHere(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch's own
    """The mode of fake tensors for a step that will run in this process, and not be exported."""


def runs_here(x: Tensor) -> bool:
    """Return whether x's step runs in this process, which knows this library's operations."""
    return not isinstance(x, FakeTensor) or isinstance(x.fake_mode, RunsHere)
