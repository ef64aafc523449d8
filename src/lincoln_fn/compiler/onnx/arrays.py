"""The operations that make, move, cut, join and reduce tensors, in ONNX's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import torch

from lincoln_fn.compiler.onnx.elementwise import wide
from lincoln_fn.compiler.onnx.writer import Number, Rows, Size, UnknownOperationError, Value, Writer

aten = torch.ops.aten

# The end of a slice that torch writes for "to the end".
END: Final = 2**63 - 1
REDUCTIONS: Final = {
    aten.sum: "ReduceSum", aten.mean: "ReduceMean", aten.amax: "ReduceMax", aten.amin: "ReduceMin",
    aten.prod: "ReduceProd",
}  # fmt: skip


def axis_of(dim: object, ndim: int) -> int:
    """Give an axis as a number from 0."""
    if not isinstance(dim, int):
        raise UnknownOperationError(f"an axis of {dim}")
    return dim % max(ndim, 1)


def _view(write: Writer, out: Value, x: Value, *_: object) -> str:
    if out.shape == x.shape:
        return x.name
    # A size of 0 means "as before" to ONNX where allowzero is not set.
    return write.add("Reshape", x.name, write.shape(out.shape), allowzero=1)


def _expand(write: Writer, out: Value, x: Value, *_: object) -> str:
    return x.name if out.shape == x.shape else write.add("Expand", x.name, write.shape(out.shape))


def _permute(write: Writer, out: Value, x: Value, dims: Sequence[int]) -> str:
    return write.add("Transpose", x.name, perm=[axis_of(dim, len(x.shape)) for dim in dims])


def _same(write: Writer, out: Value, x: Value, *_: object) -> str:
    return x.name


def _full(write: Writer, out: Value, _: object, value: Number = 0, *__: object) -> str:
    number = write.scalar(value, out.dtype)
    return write.add("Expand", number, write.shape(out.shape)) if out.shape else number


def _scalar(write: Writer, out: Value, value: Number, *_: object) -> str:
    return write.scalar(value, out.dtype)


def _arange(write: Writer, out: Value, start: Number, end: Number, step: Number = 1) -> str:
    parts = start, end, step
    numbers = [part for part in parts if isinstance(part, int | float)]
    if len(numbers) == 3:
        return write.constant(torch.arange(*numbers), out.dtype)
    name = write.add("Range", *(write.scalar(part, torch.int64) for part in parts))
    return write.cast(Value(name, out.shape, torch.int64), out.dtype)


def _slice(
    write: Writer, out: Value, x: Value, dim: int = 0, start: Size | None = None,
    end: Size | None = None, step: int = 1,
) -> str:  # fmt: skip
    if out.shape == x.shape:
        return x.name
    bounds = [write.shape([start or 0]), write.shape([END if end is None else end])]
    axes = write.ints([axis_of(dim, len(x.shape))])
    return write.add("Slice", x.name, *bounds, axes, write.ints([step]))


def _select(write: Writer, out: Value, x: Value, dim: int, index: Size) -> str:
    axis = axis_of(dim, len(x.shape))
    return write.add("Gather", x.name, write.scalar(index, torch.int64), axis=axis)


def _unsqueeze(write: Writer, out: Value, x: Value, dim: int) -> str:
    return write.add("Unsqueeze", x.name, write.ints([axis_of(dim, len(x.shape) + 1)]))


def _cat(write: Writer, out: Value, parts: Sequence[Value], dim: int = 0) -> str:
    # torch leaves out parts of the one shape (0,), whatever the others have.
    joined = [part for part in parts if part.shape != (0,) or len(out.shape) == 1]
    names = [write.cast(part, out.dtype) for part in joined]
    return write.add("Concat", *names, axis=axis_of(dim, len(out.shape)))


def _split(
    write: Writer, out: Sequence[Value], x: Value, sizes: Sequence[Size], dim: int = 0
) -> list[str]:
    axis = axis_of(dim, len(x.shape))
    return write.add_many("Split", [x.name, write.shape(sizes)], len(out), axis=axis)


def _pad(write: Writer, out: Value, x: Value, pads: Sequence[Size], value: Number = 0) -> str:
    # torch gives pairs from the last axis on; ONNX all befores and then all afters.
    axes = [len(x.shape) - 1 - i for i in range(len(pads) // 2)]
    amounts = write.shape([*pads[0::2], *pads[1::2]])
    return write.add("Pad", x.name, amounts, write.scalar(value, x.dtype), write.ints(axes))


def _flip(write: Writer, out: Value, x: Value, dims: Sequence[int]) -> str:
    if not x.shape:
        return x.name
    axes, n = write.ints([axis_of(dim, len(x.shape)) for dim in dims]), len(dims)
    bounds = [write.ints([-1] * n), write.ints([-END] * n)]
    return write.add("Slice", x.name, *bounds, axes, write.ints([-1] * n))


def _repeat(write: Writer, out: Value, x: Value, times: Sequence[Size]) -> str:
    ones = [1] * (len(times) - len(x.shape))
    name = write.add("Reshape", x.name, write.shape([*ones, *x.shape])) if ones else x.name
    return write.add("Tile", name, write.shape(times))


def _reduce(
    operation: str, write: Writer, out: Value, x: Value, dim: object = None,
    keepdim: bool = False, *_: object,
) -> str:  # fmt: skip
    """Reduce along axes, or all of them, in the result's dtype."""
    ndim, dtype = len(x.shape), wide(out.dtype)
    dims = dim if isinstance(dim, list) else [] if dim is None else [dim]
    axes = write.ints([axis_of(d, ndim) for d in dims] or range(ndim))
    total = write.add(operation, write.cast(x, dtype), axes, keepdims=int(keepdim))
    return write.cast(Value(total, out.shape, dtype), out.dtype)


def _argument(
    operation: str, write: Writer, out: Value, x: Value, dim: int, keepdim: bool = False
) -> str:
    """Find the first place of an extreme."""
    axis, name = axis_of(dim, len(x.shape)), write.cast(x, wide(x.dtype))
    return write.add(operation, name, axis=axis, keepdims=int(keepdim))


def _cumsum(write: Writer, out: Value, x: Value, dim: int, *_: object) -> str:
    axis = write.constant(axis_of(dim, len(x.shape)), torch.int64)
    return write.add("CumSum", write.cast(x, out.dtype), axis)


def _topk(
    write: Writer, out: Sequence[Value], x: Value, k: Size, dim: int = -1, largest: bool = True,
    is_sorted: bool = True,
) -> list[str]:  # fmt: skip
    options = {"axis": axis_of(dim, len(x.shape)), "largest": int(largest), "sorted": 1}
    return write.add_many("TopK", [x.name, write.shape([k])], 2, **options)


def _along(operation: str, write: Writer, out: Value, x: Value, dim: int, *_: object) -> str:
    return write.add(operation, write.cast(x, out.dtype), axis=axis_of(dim, len(x.shape)))


ROWS: Final[Rows] = {
    **{kind: partial(_reduce, operation) for kind, operation in REDUCTIONS.items()},
    aten.view: _view, aten._unsafe_view: _view, aten.reshape: _view, aten.squeeze: _view,
    aten.expand: _expand, aten.permute: _permute, aten.clone: _same, aten.alias: _same,
    aten.lift_fresh_copy: _same, aten.full: _full, aten.full_like: _full, aten.empty: _full,
    aten.scalar_tensor: _scalar, aten.arange: _arange, aten.slice: _slice, aten.select: _select,
    aten.unsqueeze: _unsqueeze, aten.cat: _cat, aten.split_with_sizes: _split,
    aten.constant_pad_nd: _pad, aten.flip: _flip,
    aten.repeat: _repeat, aten.cumsum: _cumsum,
    aten.argmax: partial(_argument, "ArgMax"), aten.argmin: partial(_argument, "ArgMin"),
    aten.topk: _topk, aten._softmax: partial(_along, "Softmax"),
    aten._log_softmax: partial(_along, "LogSoftmax"),
}  # fmt: skip
