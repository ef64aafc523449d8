"""A checksum of the bits of some tensors."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import torch
from torch import Tensor


def checksum(tensors: Iterable[Tensor]) -> int:
    """Compute a number that almost certainly changes if a bit of the tensors changes."""
    digest = blake2b(digest_size=8)
    for tensor in tensors:
        numbers = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(numbers.data)
    return int.from_bytes(digest.digest(), "little", signed=True)
