"""Operations that a compiled step leaves to torch's kernels, which are faster than Inductor's code.

Each operation gets a name of its own here, which Inductor does not know, and so does not compile.
Max pooling over planes then takes a quarter of the time, forward and backward. The gradient of an
embedding takes a third or less, and is added up in the same order every time, unlike by Inductor's
threads. Large products take less time by oneDNN: see fastpath/product.py.

The gradient of average pooling with ceil_mode is here because Inductor's is wrong: it divides by
whole windows even if the last is cut off. So is fractional pooling of volumes: Inductor swaps the
samples of the axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.fx import Node

from lincoln_fn.compiler.passes.rewriting import by_rules
from lincoln_fn.fastpath import Operation, operation

aten = torch.ops.aten

# The position of ceil_mode in the arguments of average pooling's backward pass.
_CEIL_MODE: Final = 5
_AVG_POOL_BACKWARD: Final = (aten.avg_pool2d_backward.default, aten.avg_pool3d_backward.default)
_KEPT: Final = {
    kernel: operation(str(kernel._schema).removeprefix("aten::"), kernel)
    for kernel in (
        aten.max_pool2d_with_indices.default,
        aten.max_pool2d_with_indices_backward.default,
        aten.embedding_dense_backward.default,
        aten.fractional_max_pool3d.default,
        *_AVG_POOL_BACKWARD,
    )
}


def _mm(a: Tensor, b: Tensor) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.mT, None, "none", [], "")
    return y


mm_by_onednn: Final[Callable[[Tensor, Tensor], Tensor]] = operation(
    "mm_by_onednn(Tensor a, Tensor b) -> Tensor", _mm
)


def _replace(node: Node) -> None:
    kernel: Operation = node.target
    if kernel not in _AVG_POOL_BACKWARD or node.args[_CEIL_MODE]:
        node.target = _KEPT[kernel]


rewrite: Final = by_rules(dict.fromkeys(_KEPT, _replace))
