"""What a layer's functions take and return, and their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

# Any: each layer has its own records, and a composition has tuples of them. Python's types cannot
# express "what this layer's forward returned".
Params: TypeAlias = Any
Cache: TypeAlias = Any
# Any: one tensor, or a tuple of them where a layer takes several inputs.
Arrays: TypeAlias = Any

Forward: TypeAlias = Callable[[Params, Arrays], tuple[Arrays, Cache]]
Backward: TypeAlias = Callable[[Params, Cache, Arrays], tuple[Arrays, Params]]
InputGrad: TypeAlias = Callable[[Params, Cache, Arrays], Arrays]
Grads: TypeAlias = Callable[[Params, Cache, Arrays], Params]
