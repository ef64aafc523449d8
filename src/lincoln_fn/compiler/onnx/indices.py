"""The operations that read and write by index, in ONNX's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from lincoln_fn.compiler.onnx.arrays import axis_of
from lincoln_fn.compiler.onnx.elementwise import Operand, operand
from lincoln_fn.compiler.onnx.writer import Rows, UnknownOperationError, Value, Writer

aten = torch.ops.aten


def _gather(write: Writer, out: Value, x: Value, dim: int, index: Value, *_: object) -> str:
    if not x.shape:
        return write.add("Reshape", x.name, write.shape(out.shape))
    indices = write.cast(index, torch.int64)
    return write.add("GatherElements", x.name, indices, axis=axis_of(dim, len(x.shape)))


def _scatter(
    write: Writer, out: Value, x: Value, dim: int, index: Value, source: Operand,
    reduce: str | None = None,
) -> str:  # fmt: skip
    source_name = operand(write, source, out.dtype)
    if not isinstance(source, Value):
        source_name = write.add("Expand", source_name, write.shape(index.shape))
    elif source.shape != index.shape:
        starts, ends = write.ints([0] * len(index.shape)), write.shape(index.shape)
        source_name = write.add("Slice", source_name, starts, ends)
    kinds = {None: "none", "sum": "add", "add": "add", "prod": "mul", "amax": "max", "amin": "min"}
    if reduce not in kinds:
        raise UnknownOperationError(f"scatter with reduce={reduce}")
    axis, indices = axis_of(dim, len(x.shape)), write.cast(index, torch.int64)
    return write.add(
        "ScatterElements", x.name, indices, source_name, axis=axis, reduction=kinds[reduce]
    )


def _index_select(write: Writer, out: Value, x: Value, dim: int, index: Value) -> str:
    axis = axis_of(dim, len(x.shape))
    return write.add("Gather", x.name, write.cast(index, torch.int64), axis=axis)


def _embedding(write: Writer, out: Value, weight: Value, index: Value, *_: object) -> str:
    return _index_select(write, out, weight, 0, index)


def _coordinates(write: Writer, indices: Sequence[Value]) -> str:
    """Stack the indices, which broadcast, behind each other in a new last axis."""
    ndim = max(len(index.shape) for index in indices)
    names = [write.cast(index, torch.int64) for index in indices]
    if len(names) > 1:
        zero = names[0]
        for name in names[1:]:
            zero = write.add("Add", zero, name)
        shape = write.add("Shape", zero)
        names = [write.add("Expand", name, shape) for name in names]
    last = write.ints([ndim])
    parts = [write.add("Unsqueeze", name, last) for name in names]
    return write.add("Concat", *parts, axis=ndim) if len(parts) > 1 else parts[0]


def _order(x: Value, indices: Sequence[Value | None]) -> tuple[list[int], list[int], int]:
    """Order the axes with those that have an index in front; say where the indices stood."""
    with_index = [i for i, index in enumerate(indices) if index is not None]
    others = [i for i in range(len(x.shape)) if i not in with_index]
    is_adjacent = with_index == list(range(with_index[0], with_index[-1] + 1))
    return with_index, others, with_index[0] if is_adjacent else 0


def _masks(indices: Sequence[Value | None]) -> None:
    if any(index is not None and index.dtype is torch.bool for index in indices):
        raise UnknownOperationError("a mask as an index; use torch.where")


def _index(write: Writer, out: Value, x: Value, indices: Sequence[Value | None]) -> str:
    _masks(indices)
    with_index, others, place = _order(x, indices)
    present = [index for index in indices if index is not None]
    if len(present) == 1:
        return _index_select(write, out, x, with_index[0], present[0])
    moved = write.add("Transpose", x.name, perm=with_index + others)
    gathered = write.add("GatherND", moved, _coordinates(write, present))
    n = max(len(index.shape) for index in present)
    # The indices' axes stand where the first of them stood, if they stood side by side.
    perm = [*range(n, n + place), *range(n), *range(n + place, n + len(others))]
    return write.add("Transpose", gathered, perm=perm)


def _index_put(
    write: Writer, out: Value, x: Value, indices: Sequence[Value | None], source: Value,
    accumulate: bool = False,
) -> str:  # fmt: skip
    _masks(indices)
    with_index, others, place = _order(x, indices)
    present = [index for index in indices if index is not None]
    n = max(len(index.shape) for index in present)
    order = with_index + others
    moved = write.add("Transpose", x.name, perm=order)
    at = _coordinates(write, present)
    # What is put has, as what is read, the indices' axes where the first of them stood.
    front = [*range(place, place + n), *range(place), *range(place + n, n + len(others))]
    where = write.add("Shape", write.add("GatherND", moved, at))
    name = write.cast(source, x.dtype)
    missing = n + len(others) - len(source.shape)
    if missing:
        name = write.add("Unsqueeze", name, write.ints(list(range(missing))))
    name = write.add("Expand", write.add("Transpose", name, perm=front), where)
    reduction = "add" if accumulate else "none"
    put = write.add("ScatterND", moved, at, name, reduction=reduction)
    return write.add("Transpose", put, perm=[order.index(i) for i in range(len(order))])


ROWS: Final[Rows] = {
    aten.gather: _gather, aten.scatter: _scatter, aten.scatter_reduce: _scatter,
    aten.embedding: _embedding, aten.index_select: _index_select, aten.index: _index,
    aten.index_put: _index_put,
}  # fmt: skip
