"""Whether what is computed is computed in this process, where this library's operations are known.

A step that is compiled runs here; one that is exported runs where nobody knows them. While a step
is traced, its fake tensors tell which it is.
"""

from __future__ import annotations

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


class RunsHere(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch's own
    """The mode of fake tensors for a step that will run in this process."""


def runs_here(x: Tensor) -> bool:
    """Return whether what is computed from a tensor is computed in this process.

    Example:
        >>> import torch
        >>> with RunsHere():
        ...     runs_here(torch.ones(2))
        True
    """
    return not isinstance(x, FakeTensor) or isinstance(x.fake_mode, RunsHere)
