"""Operations that are rewritten while a step is traced: indices, some sums, and zeros.

Eagerly, each operation checks its indices. Compiled code checks them too, but an error that it
raises in one of several threads ends the process. So while a step is traced, each index is moved to
the nearest in range. A tensor records whether one was moved, and the step's value depends on it.

A sum a + alpha b becomes a sum and a product: fusing it with a matrix product, Inductor drops the
alpha. A matrix product with a sum becomes a product and a sum, which Inductor fuses with the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Final

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch._ops import HigherOrderOperator
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils._python_dispatch import TorchDispatchMode

from lincoln_fn.fastpath import Argument, Operation

aten = torch.ops.aten

# Their first arguments are x, dim and index.
_ALONG_AXIS = {
    aten.gather, aten.scatter, aten.scatter_add, aten.scatter_reduce, aten.index_select,
    aten.index_add, aten.index_copy, aten.index_fill,
}  # fmt: skip
# Their first arguments are x and, for each axis, an index or None; -1 is the last.
_BY_AXIS = {aten.index, aten._unsafe_index, aten.index_put, aten._unsafe_index_put}
# Traced as gather and scatter.
_SPELLED_OUT = get_decompositions(
    [getattr(aten, f"nll_loss{d}_{way}") for d in ("", "2d") for way in ("forward", "backward")]
)

# Copies that stay: of a tensor's storage, whose layout a view would change, and of a constant.
_NO_VIEWS = {aten.as_strided_copy.default, aten.lift_fresh_copy.default}

_SCALED = {aten.add.Tensor, aten.sub.Tensor}


class ForInductor(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's own
    """Rewrites operations while active; `wrong` lists for each index whether it is out of range."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wrong: list[Tensor] = []
        self._tracer = get_proxy_mode()

    def __torch_dispatch__(
        self,
        func: Operation,
        types: object,
        args: tuple[Argument, ...] = (),
        kwargs: dict[str, Argument] | None = None,
    ) -> Argument:
        if isinstance(func, HigherOrderOperator) and func.__name__ == "scan":
            return self._loop(func, *args)
        if torch.Tag.view_copy in func.tags and func not in _NO_VIEWS:
            # `functionalize` makes copies of the views in the body of a loop.
            view = getattr(aten, func.overloadpacket.__name__.removesuffix("_copy"))
            func = getattr(view, func._overloadname)
        kind, arguments = func.overloadpacket, list(args)
        if func is aten.view.default:
            # Without in-place operations, the viewed tensor may have another memory layout.
            return args[0].reshape(args[1])
        if func in _SCALED and kwargs and kwargs.get("alpha", 1) != 1:
            return func(args[0], args[1] * kwargs["alpha"])
        if func is aten.addmm.default:
            return product_and_sum(*args, **(kwargs or {}))
        if func is aten._efficientzerotensor.default:  # a tangent of 0: it has no memory to read
            return aten.zeros.default(*args, **(kwargs or {}))
        if func in _SPELLED_OUT:
            with self:
                return _SPELLED_OUT[func](*args, **(kwargs or {}))
        if kind in _ALONG_AXIS:
            x, dim, index = args[:3]
            arguments[2] = self._clamp(index, 0, x.shape[dim] if x.ndim else 1)
        elif kind in _BY_AXIS:
            sizes = zip(args[1], args[0].shape, strict=False)
            arguments[1] = [
                index if index is None else self._clamp(index, -n, n) for index, n in sizes
            ]
        elif kind is aten.embedding:
            arguments[1] = self._clamp(args[1], 0, len(args[0]))
        elif kind is aten.embedding_dense_backward:
            arguments[1] = self._clamp(args[1], 0, args[2])
        return func(*arguments, **(kwargs or {}))

    def _loop(
        self, loop: Operation, body: Callable[..., Sequence[Tensor]], *arguments: Sequence[Tensor]
    ) -> list[Tensor]:
        """Rewrite the body of a loop, which then also returns whether an index is out of range."""

        def rewritten(*leaves: Tensor) -> list[Tensor]:
            with ForInductor() as indices:
                results = body(*leaves)
            wrong = torch.zeros((), dtype=torch.bool, device=leaves[0].device)
            return [*results, reduce(torch.logical_or, indices.wrong, wrong)]

        results: list[Tensor] = [*loop(rewritten, *arguments)]
        self._add(results[-1].any())
        return results[:-1]

    def _clamp(self, index: Tensor, low: int, n: int) -> Tensor:
        if index.dtype not in (torch.int64, torch.int32):
            return index  # a mask
        clamped = index.clamp(low, max(n - 1, low))
        self._add((clamped != index).any())
        return clamped

    def _add(self, wrong: Tensor) -> None:
        # torch also traces the body of a loop by itself, only to look for aliases.
        if get_proxy_mode() is self._tracer:
            self.wrong.append(wrong)


def product_and_sum(
    c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """Compute beta c + alpha a b: a product, and a sum that is fused with what follows."""
    product = a @ b if alpha == 1 else (a @ b) * alpha
    if beta == 0:  # even if c is nan
        return product
    return (c if beta == 1 else c * beta) + product


def _var_mean(
    x: Tensor, dim: list[int] | None = None, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    dims = dim or list(range(x.ndim))
    mean = x.mean(dims, keepdim=True)
    count = math.prod(x.shape[d] for d in dims) - (1 if correction is None else correction)
    var = (x - mean).square().sum(dims, keepdim=keepdim) / max(count, 0)
    return var, mean if keepdim else mean.squeeze(tuple(dims))


def _var(*args: Argument, **kwargs: Argument) -> Tensor:
    return _var_mean(*args, **kwargs)[0]


VARIANCES: Final[dict[Operation, Callable[..., Argument]]] = {
    aten.var_mean.correction: _var_mean, aten.var.correction: _var,
}  # fmt: skip
