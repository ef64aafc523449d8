"""What is asked of tensors: who sees them, what their numbers are, and whether they have changed.

What autograd or torch.func sees has to have a derivative in each part. A change is one in place, as
torch counts it, or one of the bits, by a checksum. A cast is for `in_dtype`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeGuard

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.func import debug_unwrap

from lincoln_fn.core import tree
from lincoln_fn.core.tree import T
from lincoln_fn.core.values import Params
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


def is_floating(value: object) -> TypeGuard[Tensor]:
    """Return whether a value is a floating tensor."""
    return isinstance(value, Tensor) and value.is_floating_point()


def tensors_in(arguments: Iterable[Any]) -> list[Tensor]:  # Any: trees, and what is none
    """List the tensors of a function's arguments."""
    return [leaf for leaf in tree.leaves(tuple(arguments), states=True) if isinstance(leaf, Tensor)]


def mirrors(one: tree.Tree, other: tree.Tree, *, states: bool = False) -> bool:
    """Return whether two trees have one structure, and tensors of the same shapes and dtypes."""
    pairs = zip(*(tree.leaves(each, states=states) for each in (one, other)), strict=False)
    return tree.same_structure(one, other, states=states) and all(
        isinstance(a, Tensor) and isinstance(b, Tensor) and (a.shape, a.dtype) == (b.shape, b.dtype)
        for a, b in pairs
    )


def named_leaves(trees: tree.Tree, *, states: bool = False) -> list[tuple[str, Any]]:
    """List the leaves of a tree, each with its path; Any: a tensor, or what was given for one."""
    leaves = tree.leaves(trees, states=states)
    return list(zip(tree.paths(trees, states=states), leaves, strict=True))


def check_not_transformed(name: str, reason: str, mend: str, arguments: Iterable[Any]) -> None:
    """Refuse what autograd or torch.func sees, where there is no derivative."""
    if is_transformed(*tensors_in(arguments)):
        raise LayerError(name, f"cannot be differentiated or mapped, since {reason}; {mend}")


def is_traced(*tensors: Tensor | None) -> bool:
    """Return whether a tracer sees what is computed from the tensors."""
    return torch.compiler.is_compiling() or FakeTensor in map(type, tensors)


def is_plain(*tensors: Tensor | None) -> bool:
    """Return whether no autograd, torch.func or tracer sees what is computed from the tensors."""
    return not (is_transformed(*tensors) or is_traced(*tensors))


# What is asked of the number that is being read: whether it lies between two others. A recorded
# program asks the same of its own number; of any other number it asks whether it is the same.
ASKED: Final[ContextVar[tuple[float, float] | None]] = ContextVar("ASKED", default=None)


def is_between(lowest: float, x: Tensor, highest: float) -> bool:
    """Return whether the number of a tensor lies between two others; nan never does."""
    before = ASKED.set((lowest, highest))
    try:
        return lowest <= x.item() <= highest
    finally:
        ASKED.reset(before)


def is_finite(x: Tensor) -> bool:
    """Return whether the number of a tensor is finite."""
    return is_between(-sys.float_info.max, x, sys.float_info.max)


class Version(NamedTuple):
    """A tensor, its path, and how often it had been changed in place."""

    path: str
    tensor: Tensor
    version: int


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place; a tensor of inference mode does not count."""
    return 0 if tensor.is_inference() else tensor._version


def versions(**trees: object) -> list[Version]:
    """Note how often each tensor of some trees has been changed in place."""
    pairs = named_leaves(trees, states=True)
    return [Version(path, t, version_of(t)) for path, t in pairs if isinstance(t, Tensor)]


def changed_since(noted: list[Version]) -> str:
    """Return the path of the first tensor that was changed in place since, or "" if none was."""
    return next((path for path, t, version in noted if version_of(t) != version), "")


def checksum(tensors: Iterable[Tensor]) -> int:
    """Compute a number that almost certainly changes if a bit of the tensors changes."""
    digest = blake2b(digest_size=8)
    for tensor in tensors:
        numbers = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(numbers.data)
    return int.from_bytes(digest.digest(), "little", signed=True)


def same_strides(x: Tensor) -> Tensor:
    """Make an empty tensor of x's shape, strides, dtype and device, also where x is expanded."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)


def cast(arrays: T, dtype: torch.dtype) -> T:
    """Cast the floating leaves of a tree, including those in its states."""

    def cast_leaf(leaf: Tensor) -> Tensor:
        return leaf.to(dtype) if leaf.is_floating_point() else leaf

    return tree.map(cast_leaf, arrays, states=True)


def cast_like(given: Params, params: Params, *, states: bool = False) -> Params:
    """Cast a tree that mirrors the parameters to their dtypes, by default their states, too."""
    return tree.map(lambda p, own: own.to(p.dtype), params, given, states=states)
