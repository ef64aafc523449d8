"""Whether autograd, torch.func or a tracer sees a computation.

What autograd or torch.func sees has to have a derivative in each part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.func import debug_unwrap

from lincoln_fn.core import tree
from lincoln_fn.errors.errors import LayerError

# Any: torch writes no types for it. Its `_current_level` is below 0 outside of forward mode.
_FORWARD_MODE: Final[Any] = forward_ad


def is_transformed(*tensors: Tensor | None) -> bool:
    """Return whether autograd or torch.func sees what is computed from the tensors."""
    is_recorded, is_dual = torch.is_grad_enabled(), is_forward_mode()
    for t in tensors:  # a generator would take twice as long, which is measurable in a small step
        if t is not None and (
            (is_recorded and t.requires_grad)
            or is_wrapped(t)
            or (is_dual and _FORWARD_MODE.unpack_dual(t).tangent is not None)
        ):
            return True
    return False


def is_wrapped(tensor: Tensor) -> bool:
    """Return whether a transform of torch.func sees a tensor."""
    return debug_unwrap(tensor, recurse=False) is not tensor


def is_forward_mode() -> bool:
    """Return whether tensors may have tangents, as within `torch.func.jvp`."""
    return bool(_FORWARD_MODE._current_level >= 0)


def tensors_in(arguments: Iterable[Any]) -> list[Tensor]:  # Any: trees, and what is none
    """List the tensors of a function's arguments."""
    leaves = tree.leaves(tuple(arguments), states=True)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def check_not_transformed(name: str, reason: str, mend: str, arguments: Iterable[Any]) -> None:
    """Refuse what autograd or torch.func sees, where there is no derivative."""
    if is_transformed(*tensors_in(arguments)):
        raise LayerError(name, f"cannot be differentiated or mapped, since {reason}; {mend}")


def recorded_in(state: object) -> list[Tensor]:
    """List a state's tensors without those that the user's own step differentiates anew."""
    return [t for t in tensors_in((state,)) if not (t.is_leaf and t.requires_grad)]


def is_traced(*tensors: Tensor | None) -> bool:
    """Return whether a tracer sees what is computed from the tensors."""
    return torch.compiler.is_compiling() or FakeTensor in map(type, tensors)


def is_plain(*tensors: Tensor | None) -> bool:
    """Return whether no autograd, torch.func or tracer sees what is computed from the tensors."""
    return not (is_transformed(*tensors) or is_traced(*tensors))
