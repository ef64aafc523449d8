"""What a layer's functions take and return, and their types."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

# Any: each layer has its own records, and a composition has tuples of them. Python's types cannot
# express "what this layer's forward returned".
Params: TypeAlias = Any
Cache: TypeAlias = Any
# Any: one tensor, or a tuple of them where a layer takes several inputs.
Arrays: TypeAlias = Any


class Like(NamedTuple):
    """A tensor's shape, dtype and device, which a cache keeps of y if no tensor in it has them."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, y: Tensor) -> Like:
        """Read them off a tensor."""
        return cls(y.shape, y.dtype, y.device)
