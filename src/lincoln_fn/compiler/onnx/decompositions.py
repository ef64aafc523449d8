"""Operations that ONNX lacks, in torch's own operations that it has.

A function gets what torch's operation gets. It returns NotImplemented for arguments that ONNX has.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeGuard

import torch
from torch import Tensor
from torch._decomp import get_decompositions

from lincoln_fn.compiler.decompositions import VARIANCES
from lincoln_fn.fastpath import Argument, Operation

aten = torch.ops.aten

Scalar: TypeAlias = bool | int | float
Indices: TypeAlias = Sequence[Tensor | None]
Decomposition: TypeAlias = Callable[..., Argument]
Result: TypeAlias = Argument  # what an operation returns, or NotImplemented
Table: TypeAlias = dict[Operation, Decomposition]


def _expm1(x: Tensor) -> Tensor:
    """e^x - 1 = 2 sinh(x / 2) e^(x / 2), which keeps its digits where x is small."""
    half = x.clamp(min=-100.0) * 0.5  # below, the result is -1 in every dtype, and not -inf times 0
    return half.sinh() * 2 * half.exp()


def _log1p(x: Tensor) -> Tensor:
    """log(1 + x) = 2 atanh(x / (2 + x)), which keeps its digits where x is small."""
    return torch.where(x < 1, (x / (x + 2)).atanh() * 2, (x + 1).log())


def _cos(x: Tensor) -> Result:
    """cos(x) = sin(x + pi / 2): not every runtime has a cosine in float64."""
    return (x + math.pi / 2).sin() if x.dtype is torch.float64 else NotImplemented


def _of_floats(x: Tensor) -> Result:
    return NotImplemented if x.is_floating_point() else x


def _trunc(x: Tensor) -> Tensor:
    return x.sign() * x.abs().floor() if x.is_floating_point() else x


def _div(a: Tensor, b: Tensor | Scalar, *, rounding_mode: str | None = None) -> Result:
    """Round a quotient: of floats from the remainder, for 1 / 0.1 rounds to 10, and 9 fit."""
    dtype = torch.result_type(a, b)
    # ONNX divides integers as "trunc" does.
    if rounding_mode is None or (rounding_mode == "trunc" and not dtype.is_floating_point):
        return NotImplemented
    if rounding_mode == "trunc":
        return (a / b).trunc()
    if not dtype.is_floating_point:
        return torch.div(a - torch.remainder(a, b), b, rounding_mode="trunc")
    b = _tensor(b, dtype)
    rest = torch.fmod(a, b)
    whole = ((a - rest) / b).round()
    floor = torch.where(_has_other_sign(rest, b), whole - 1, whole)
    return torch.where(b == 0, a / b, floor)


def _remainder(a: Tensor | Scalar, b: Tensor | Scalar) -> Result:
    dtype = torch.result_type(a, b)
    if not dtype.is_floating_point:
        return NotImplemented
    a, b = _tensor(a, dtype), _tensor(b, dtype)
    rest = torch.fmod(a, b)
    return torch.where(_has_other_sign(rest, b), rest + b, rest)


def _tensor(x: Tensor | Scalar, dtype: torch.dtype) -> Tensor:
    return x if isinstance(x, Tensor) else torch.scalar_tensor(x, dtype=dtype)


def _has_other_sign(rest: Tensor, b: Tensor) -> Tensor:
    """Say where a remainder with the sign of the dividend has not that of the divisor."""
    return ((rest < 0) ^ (b < 0)) & (rest != 0)


def _shift_left(x: Tensor, n: Argument) -> Result:
    """Shift by a constant n: x << n is 2^n x."""
    if not isinstance(n, int) or not 0 <= n < 64:
        return NotImplemented
    y = x.long() * (1 << min(n, 62))  # 2^63 is no int64
    return (y * 2 if n == 63 else y).to(x.dtype)


def _argument(operation: Callable[[Tensor, int], Tensor]) -> Decomposition:
    """Make argmax or argmin of all numbers from that along an axis."""

    def of_all(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Result:
        if x.ndim and dim is not None:
            return NotImplemented
        return operation(x.flatten(), 0).reshape([1] * x.ndim if keepdim else [])

    return of_all


def _numbers(x: Tensor) -> Tensor:
    return x.byte() if x.dtype is torch.bool else x


def _sort(x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, ...]:
    return tuple(x.topk(x.shape[dim] if x.ndim else 1, dim, descending))


def _with_axis(operation: Decomposition) -> Decomposition:
    """Let an operation along axes take a tensor without axes, as one number along an axis."""

    def along(x: Tensor, *arguments: Argument, **named: Argument) -> Argument:
        if x.ndim:
            return NotImplemented
        y = operation(x.reshape(1), *arguments, **named)
        return y.reshape(()) if isinstance(y, Tensor) else tuple(part.reshape(()) for part in y)

    return along


def _slice_scatter(
    x: Tensor, source: Tensor, dim: int = 0, start: int | None = None, end: int | None = None,
    step: int = 1,
) -> Tensor:  # fmt: skip
    rows = torch.arange(x.shape[dim])[start:end:step]
    return x.movedim(dim, 0).index_put((rows,), source.movedim(dim, 0)).movedim(0, dim)


def _unfold(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    dim %= x.ndim
    count = (x.shape[dim] - size) // step + 1
    places = torch.arange(0, count * step, step)[:, None] + torch.arange(size)
    windows = x.index_select(dim, places.flatten())
    return windows.view(*x.shape[:dim], count, size, *x.shape[dim + 1 :]).movedim(dim + 1, -1)


def _index(x: Tensor, indices: Indices) -> Result:
    """Read by indices of one shape along the first axes, or by one index along any axis."""
    if _are_in_front(indices) or len(indices) - [*indices].count(None) == 1:
        return NotImplemented
    order, found, place = _to_front(x, indices)
    n = found[0].ndim
    return aten.index(x.permute(order), found).movedim([*range(n)], [*range(place, place + n)])


def _index_put(x: Tensor, indices: Indices, source: Tensor, accumulate: bool = False) -> Result:
    """Put numbers where such indices read, or one number wherever a mask is true."""
    first = indices[0]
    if first is not None and first.dtype is torch.bool:
        if len(indices) > 1 or source.ndim:
            return NotImplemented
        return torch.where(first.reshape(*first.shape, *[1] * (x.ndim - first.ndim)), source, x)
    if _are_in_front(indices) and source.shape == (*indices[0].shape, *x.shape[len(indices) :]):
        return NotImplemented
    order, found, place = _to_front(x, indices)
    n, others = found[0].ndim, [x.shape[i] for i in order[len(found) :]]
    source = source.expand(*others[:place], *found[0].shape, *others[place:])
    source = source.movedim([*range(place, place + n)], [*range(n)])
    put = aten.index_put(x.permute(order), found, source, accumulate)
    return put.permute([order.index(i) for i in range(x.ndim)])


def _are_in_front(indices: Indices) -> TypeGuard[Sequence[Tensor]]:
    shapes = {None if index is None else index.shape for index in indices}
    return len(shapes) == 1 and None not in shapes


def _to_front(x: Tensor, indices: Indices) -> tuple[list[int], list[Tensor], int]:
    """Order the axes, those with an index first; give the indices one shape and their place."""
    at = [i for i, index in enumerate(indices) if index is not None]
    order = at + [i for i in range(x.ndim) if i not in at]
    found = aten.broadcast_tensors([index for index in indices if index is not None])
    # What was read stands where the first index stood, if the indices stood side by side.
    return order, [*found], at[0] if at == [*range(at[0], at[-1] + 1)] else 0


def _max_pool(x: Tensor, *window: Argument) -> Result:
    """Pool one example, without an axis of examples, as a batch of one."""
    if x.ndim == 4:
        return NotImplemented
    return tuple(part[0] for part in aten.max_pool2d_with_indices(x[None], *window))


_BY_KIND: Final[Table] = {
    aten.expm1: _expm1, aten.log1p: _log1p, aten.cos: _cos, aten.trunc: _trunc, aten.div: _div,
    aten.remainder: _remainder, aten.floor: _of_floats, aten.ceil: _of_floats,
    aten.__lshift__: _shift_left, aten.bitwise_left_shift: _shift_left,
    aten.argmax: _argument(torch.argmax), aten.argmin: _argument(torch.argmin),
    aten.slice_scatter: _slice_scatter, aten.unfold: _unfold, aten.index: _index,
    aten.index_put: _index_put, aten.max_pool2d_with_indices: _max_pool,
    aten.add: lambda a, b, alpha=1: NotImplemented if alpha == 1 else a + b * alpha,
    aten.sub: lambda a, b, alpha=1: NotImplemented if alpha == 1 else a - b * alpha,
    aten.rsqrt: lambda x: x.sqrt().reciprocal(), aten.erfc: lambda x: 1 - x.erf(),
    aten.exp2: lambda x: (x * 0.6931471805599453).exp(),
    aten.log2: lambda x: x.log() * 1.4426950408889634,
    aten.log10: lambda x: x.log() * 0.4342944819032518,
    aten.isnan: lambda x: x != x, aten.ne: lambda a, b: ~torch.eq(a, b),
    aten.logical_or: lambda a, b: a.bool() | b.bool(),
    aten.scatter_add: lambda x, dim, index, source: x.scatter_reduce(dim, index, source, "sum"),
}  # fmt: skip
_BY_OPERATION: Final[Table] = {
    **VARIANCES, aten.round.default: _of_floats, aten.sort.default: _sort,
    aten.max.default: lambda x: x.amax(), aten.min.default: lambda x: x.amin(),
    aten.max.dim: lambda x, *axis: (x.amax(*axis), _numbers(x).argmax(*axis)),
    aten.min.dim: lambda x, *axis: (x.amin(*axis), _numbers(x).argmin(*axis)),
}  # fmt: skip
# Those of torch's own that its exported programs leave as they are.
_TORCHS: Final = (
    aten.addmm, aten.any, aten.isinf, aten.leaky_relu, aten.linalg_vector_norm, aten.logical_and,
    aten.logical_not, aten.logical_xor, aten.max_pool2d_with_indices_backward,
)  # fmt: skip
_ALONG_AXES: Final = (
    aten.sum, aten.mean, aten.amax, aten.amin, aten.prod, aten.cumsum, aten.topk, aten._softmax,
    aten._log_softmax,
)  # fmt: skip


@functools.cache  # torch looks at all of its operations to make its own table
def decompositions() -> Table:
    """Return torch's table from operations to core operations, and this one."""
    kinds = {**_BY_KIND, **dict.fromkeys(_ALONG_AXES)}
    forms = {getattr(kind, form): own for kind, own in kinds.items() for form in kind.overloads()}
    ours = {form: own or _with_axis(form) for form, own in forms.items()}
    torchs = get_decompositions(_TORCHS)
    return {**torch.export.default_decompositions(), **torchs, **ours, **_BY_OPERATION}
