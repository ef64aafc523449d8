"""The operations that make, move, cut and join tensors, in ONNX's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from lincoln_fn.compiler.onnx.elementwise import Operand, where
from lincoln_fn.compiler.onnx.sizes import Affine, Number, Size
from lincoln_fn.compiler.onnx.writer import Row, Rows, UnknownOperationError, Value, Writer

aten = torch.ops.aten

# The end of a slice that torch writes for "to the end".
END: Final = 2**63 - 1


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
    if out.shape == x.shape:
        return x.name
    return write.add("Expand", x.name, write.shape(out.shape))


def _permute(write: Writer, out: Value, x: Value, dims: Sequence[int]) -> str:
    name, order = x.name, [axis_of(dim, len(x.shape)) for dim in dims]
    maker = write.makers.get(name)
    if maker is not None and maker.op_type == "Transpose":  # one takes the place of two
        before = list(maker.attribute[0].ints)
        name, order = maker.input[0], [before[axis] for axis in order]
    if order == sorted(order):
        return name
    return write.add("Transpose", name, perm=order)


def _transpose(write: Writer, out: Value, x: Value, a: int, b: int) -> str:
    dims = list(range(len(x.shape)))
    a, b = axis_of(a, len(dims)), axis_of(b, len(dims))
    dims[a], dims[b] = b, a
    return _permute(write, out, x, dims)


def _same(write: Writer, out: Value, x: Value, *_: object) -> str:
    return x.name


def _full(write: Writer, out: Value, _: object, value: Number, *__: object) -> str:
    number = write.scalar(value, out.dtype)
    return write.add("Expand", number, write.shape(out.shape)) if out.shape else number


def _filled(value: float) -> Row:
    """Make the row of a tensor of one number."""

    def row(write: Writer, out: Value, *_: object) -> str:
        return _full(write, out, None, value)

    return row


def _scalar(write: Writer, out: Value, value: Number, *_: object) -> str:
    return write.scalar(value, out.dtype)


def _arange(write: Writer, out: Value, *numbers: object) -> str:
    given = [x for x in numbers if isinstance(x, int | float | Affine) and not isinstance(x, bool)]
    start, end, step = ([0, *given, 1] if len(given) == 1 else [*given, 1])[:3]
    if all(isinstance(x, int | float) for x in (start, end, step)):
        return write.constant(torch.arange(start, end, step), out.dtype)  # type: ignore[arg-type]  # numbers
    parts = [write.scalar(x, torch.int64) for x in (start, end, step)]
    return write.cast(Value(write.add("Range", *parts), out.shape, torch.int64), out.dtype)


def _slice(
    write: Writer, out: Value, x: Value, dim: int = 0, start: Size | None = None,
    end: Size | None = None, step: int = 1,
) -> str:  # fmt: skip
    if out.shape == x.shape:
        return x.name
    ends = END if end is None else end
    bounds = [write.shape([0 if start is None else start]), write.shape([ends])]
    return write.add(
        "Slice", x.name, *bounds, write.ints([axis_of(dim, len(x.shape))]), write.ints([step])
    )


def _select(write: Writer, out: Value, x: Value, dim: int, index: Size) -> str:
    axis = axis_of(dim, len(x.shape))
    return write.add("Gather", x.name, write.scalar(index, torch.int64), axis=axis)


def _unsqueeze(write: Writer, out: Value, x: Value, dim: int) -> str:
    return write.add("Unsqueeze", x.name, write.ints([axis_of(dim, len(x.shape) + 1)]))


def _cat(write: Writer, out: Value, parts: Sequence[Value], dim: int = 0) -> str:
    # torch leaves out parts of the one shape (0,), whatever the others have.
    kept = [part for part in parts if part.shape != (0,) or len(out.shape) == 1]
    names = [write.cast(part, out.dtype) for part in kept]
    return write.add("Concat", *names, axis=axis_of(dim, len(out.shape)))


def _split(
    write: Writer, out: Sequence[Value], x: Value, sizes: Sequence[Size], dim: int = 0
) -> list[str]:
    axis = axis_of(dim, len(x.shape))
    lengths = write.shape([part.shape[axis] for part in out])
    return write.add_many("Split", [x.name, lengths], len(out), axis=axis)


def _pad(write: Writer, out: Value, x: Value, pads: Sequence[Size], value: Number = 0) -> str:
    # torch gives pairs from the last axis on; ONNX all befores and then all afters.
    axes = [len(x.shape) - 1 - i for i in range(len(pads) // 2)]
    amounts = write.shape([*pads[0::2], *pads[1::2]])
    return write.add("Pad", x.name, amounts, write.scalar(value, x.dtype), write.ints(axes))


def _flip(write: Writer, out: Value, x: Value, dims: Sequence[int]) -> str:
    if not x.shape:
        return x.name
    axes = write.ints([axis_of(dim, len(x.shape)) for dim in dims])
    n = len(dims)
    bounds = [write.ints([-1] * n), write.ints([-END] * n)]
    return write.add("Slice", x.name, *bounds, axes, write.ints([-1] * n))


def _repeat(write: Writer, out: Value, x: Value, times: Sequence[Size]) -> str:
    missing = len(times) - len(x.shape)
    name = x.name
    if missing:
        name = write.add("Unsqueeze", name, write.ints(range(missing)))
    return write.add("Tile", name, write.shape(times))


def _slice_scatter(
    write: Writer, out: Value, x: Value, source: Value, dim: int = 0, start: Size | None = None,
    end: Size | None = None, step: int = 1,
) -> str:  # fmt: skip
    axis = axis_of(dim, len(x.shape))
    whole = x.shape[axis]
    positions = write.add("Range", *(write.scalar(size, torch.int64) for size in (0, whole, 1)))
    taken = _slice(write, out, Value(positions, (whole,), torch.int64), 0, start, end, step)
    index = write.add("Unsqueeze", taken, write.ints([1]))
    order = [axis, *(i for i in range(len(x.shape)) if i != axis)]
    back = [order.index(i) for i in range(len(order))]
    moved = write.add("Transpose", x.name, perm=order)
    moved_source = write.add("Transpose", write.cast(source, x.dtype), perm=order)
    return write.add("Transpose", write.add("ScatterND", moved, index, moved_source), perm=back)


def _select_scatter(
    write: Writer, out: Value, x: Value, source: Value, dim: int, index: int
) -> str:
    axis = axis_of(dim, len(x.shape))
    name = write.add("Unsqueeze", source.name, write.ints([axis]))
    end = index + 1 if index != -1 else None
    widened = Value(name, source.shape, source.dtype)
    return _slice_scatter(write, out, x, widened, axis, index, end)


def _tril(keeps_lower: int) -> Row:
    def row(write: Writer, out: Value, x: Value, diagonal: int = 0) -> str:
        k = write.constant(diagonal, torch.int64)
        return write.add("Trilu", x.name, k, upper=1 - keeps_lower)

    return row


def _unfold(write: Writer, out: Value, x: Value, dim: int, size: int, step: int) -> str:
    axis = axis_of(dim, len(x.shape))
    count = out.shape[axis]
    if not isinstance(count, int):
        raise UnknownOperationError("windows over the examples")
    places = torch.arange(0, count * step, step)[:, None] + torch.arange(size)
    windows = write.add("Gather", x.name, write.constant(places, torch.int64), axis=axis)
    order = [i for i in range(len(out.shape)) if i != axis + 1]
    return write.add("Transpose", windows, perm=[*order, axis + 1])


def _masked_fill(write: Writer, out: Value, x: Value, mask: Value, value: Operand) -> str:
    return where(write, out, mask, value, x)


ROWS: Final[Rows] = {
    aten.view: _view, aten._unsafe_view: _view, aten.reshape: _view, aten.squeeze: _view,
    aten.expand: _expand, aten.permute: _permute, aten.transpose: _transpose, aten.clone: _same,
    aten.t: lambda write, out, x: _permute(write, out, x, list(range(len(x.shape)))[::-1]),
    aten.alias: _same, aten.detach: _same, aten.lift_fresh_copy: _same, aten.full: _full,
    aten.full_like: _full, aten.zeros: _filled(0), aten.zeros_like: _filled(0),
    aten.ones: _filled(1), aten.ones_like: _filled(1), aten.new_zeros: _filled(0),
    aten.empty: _filled(0), aten.empty_like: _filled(0),
    aten.scalar_tensor: _scalar, aten.arange: _arange, aten.slice: _slice, aten.select: _select,
    aten.unsqueeze: _unsqueeze, aten.cat: _cat, aten.split_with_sizes: _split, aten.split: _split,
    aten.constant_pad_nd: _pad, aten.flip: _flip, aten.repeat: _repeat,
    aten.slice_scatter: _slice_scatter, aten.select_scatter: _select_scatter,
    aten.tril: _tril(1), aten.triu: _tril(0), aten.masked_fill: _masked_fill,
    aten.unfold: _unfold,
}  # fmt: skip
