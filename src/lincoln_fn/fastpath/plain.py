"""Whether autograd, torch.func or a tracer sees what is computed, or another process runs it."""

from __future__ import annotations

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


def runs_here(x: Tensor) -> bool:
    """Return whether x's step runs in this process, which knows this library's operations."""
    return not isinstance(x, FakeTensor) or isinstance(x.fake_mode, RunsHere)
