"""Whether tensors have changed: in place, as torch counts it, or by a checksum of their bits."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

import torch
from torch import Tensor

from lincoln_fn.core import tree


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
    pairs = zip(tree.paths(trees, states=True), tree.leaves(trees, states=True), strict=True)
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
