"""Operations that a compiled step leaves to torch's kernels, which are faster than Inductor's code.

Inductor does not compile an operation that it does not know. So each operation gets a name of its
own here. Max pooling over planes then takes a quarter of the time, forward and backward. The
gradient of an embedding takes a third or less, and is added up in the same order every time;
Inductor's threads would add to the table in any order. Large products take less time by oneDNN:
see fastpath/product.py.

The gradient of average pooling with ceil_mode is here because Inductor's is wrong: it divides by
whole windows even if the last is cut off. So is fractional pooling of volumes: Inductor swaps the
samples of the axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.library import Library

aten = torch.ops.aten

# Registered once, when this module is imported; the names live as long as the library object.
_LIBRARY: Any = Library("lincoln_fn", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch's own


def register(
    schema: str, kernel: Any, like: Any = None
) -> Any:  # Any: operations, of no public type
    """Register an operation that Inductor does not know."""
    # `like` makes tensors like the results on `meta`; None if the kernel itself does.
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)
    _LIBRARY.impl(name, kernel, "CPU" if like else "CompositeExplicitAutograd")
    if like:
        _LIBRARY.impl(name, like, "Meta")
    return getattr(torch.ops.lincoln_fn, name).default


def _register_kernel(kernel: Any) -> Any:  # Any: as above
    return register(str(kernel._schema).removeprefix("aten::"), kernel)


AVG_POOL_BACKWARD: Final = (aten.avg_pool2d_backward.default, aten.avg_pool3d_backward.default)
KEPT: Final = {
    kernel: _register_kernel(kernel)
    for kernel in (
        aten.max_pool2d_with_indices.default,
        aten.max_pool2d_with_indices_backward.default,
        aten.embedding_dense_backward.default,
        aten.fractional_max_pool3d.default,
        *AVG_POOL_BACKWARD,
    )
}


def _mm(a: Tensor, b: Tensor) -> Any:  # Any: as above
    return torch.ops.mkldnn._linear_pointwise(a, b.mT, None, "none", [], "")


mm_by_onednn: Final[Callable[[Tensor, Tensor], Tensor]] = register(
    "mm_by_onednn(Tensor a, Tensor b) -> Tensor", _mm
)
