"""Whether tensors are plain, so that a faster operation may take the place of the formula's own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.forward_ad import unpack_dual
from torch.func import debug_unwrap


def is_plain(*tensors: Tensor | None) -> bool:
    """Return whether nobody but the caller sees what is done: no autograd, torch.func or tracer.

    An operation of oneDNN's has no derivative, which torch does not report. And a compiler is to
    see the plain operation, and to choose for itself.

    Args:
        tensors: what is computed from.

    Returns:
        True if it may be computed in any way that gives the right numbers.

    Example:
        >>> is_plain(torch.ones(2)), is_plain(torch.ones(2, requires_grad=True))
        (True, False)
    """
    if torch.compiler.is_compiling():
        return False
    is_recorded = torch.is_grad_enabled()
    return not any(
        isinstance(t, FakeTensor)
        or (is_recorded and t.requires_grad)
        or debug_unwrap(t, recurse=False) is not t
        or unpack_dual(t).tangent is not None  # type: ignore[no-untyped-call]  # torch's own
        for t in tensors
        if t is not None
    )
