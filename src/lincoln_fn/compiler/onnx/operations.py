"""Torch's operations in ONNX's: on each number, on axes, and at places by index and in windows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, TypeAlias

import torch

from lincoln_fn.compiler.onnx import writer
from lincoln_fn.compiler.onnx.writer import Number, Rows, Size, Value, Writer

aten = torch.ops.aten

Operand: TypeAlias = Value | Number

UINT64: Final = 13  # ONNX's code
# Operations on numbers of the result's dtype.
ARITHMETIC: Final = {
    aten.abs: "Abs", aten.neg: "Neg", aten.exp: "Exp", aten.log: "Log", aten.sqrt: "Sqrt",
    aten.reciprocal: "Reciprocal", aten.sin: "Sin", aten.cos: "Cos", aten.tan: "Tan",
    aten.sinh: "Sinh", aten.cosh: "Cosh", aten.asin: "Asin", aten.acos: "Acos",
    aten.atan: "Atan", aten.asinh: "Asinh", aten.acosh: "Acosh", aten.atanh: "Atanh",
    aten.tanh: "Tanh", aten.sigmoid: "Sigmoid", aten.erf: "Erf", aten.relu: "Relu",
    aten.sign: "Sign", aten.floor: "Floor", aten.ceil: "Ceil", aten.round: "Round",
    aten.add: "Add", aten.sub: "Sub", aten.mul: "Mul", aten.pow: "Pow", aten.remainder: "Mod",
    aten.maximum: "Max", aten.minimum: "Min", aten.bitwise_and: "BitwiseAnd",
    aten.bitwise_or: "BitwiseOr", aten.bitwise_xor: "BitwiseXor", aten.bitwise_not: "BitwiseNot",
    aten.mm: "MatMul", aten.bmm: "MatMul",
}  # fmt: skip
OF_BOOLS: Final = {
    "BitwiseAnd": "And", "BitwiseOr": "Or", "BitwiseXor": "Xor", "BitwiseNot": "Not", "Add": "Or",
    "Mul": "And", "Max": "Or", "Min": "And",
}  # fmt: skip
COMPARISONS: Final = {
    aten.eq: "Equal", aten.lt: "Less", aten.le: "LessOrEqual", aten.gt: "Greater",
    aten.ge: "GreaterOrEqual",
}  # fmt: skip


def operand(write: Writer, x: Operand, dtype: torch.dtype) -> str:
    """Give a tensor or a number in this dtype."""
    return write.cast(x, dtype) if isinstance(x, Value) else write.scalar(x, dtype)


def wide(dtype: torch.dtype) -> torch.dtype:
    """Give a dtype that the operations have: integers of few bits are computed in int32."""
    return torch.int32 if dtype in (torch.bool, torch.uint8, torch.int8, torch.int16) else dtype


def _arithmetic(operation: str, write: Writer, out: Value, *operands: Operand) -> str:
    dtype = wide(out.dtype)
    if out.dtype is torch.bool and operation in OF_BOOLS:
        operation, dtype = OF_BOOLS[operation], torch.bool
    result = write.add(operation, *(operand(write, x, dtype) for x in operands))
    return write.cast(Value(result, out.shape, dtype), out.dtype)


def _compared(operation: str, write: Writer, out: Value, a: Operand, b: Operand) -> str:
    dtype = wide(torch.result_type(_example(a), _example(b)))
    return write.add(operation, operand(write, a, dtype), operand(write, b, dtype))


def _example(x: Operand) -> torch.Tensor | bool | int | float:
    """Give an operand for torch to find the dtype in which it compares."""
    if isinstance(x, Value):
        return torch.empty((1,) * len(x.shape), dtype=x.dtype)
    return x if not isinstance(x, writer.OfBatch) else 0 if x.is_whole else 0.5


def _div(
    write: Writer, out: Value, a: Operand, b: Operand, rounding_mode: str | None = None
) -> str:
    return _arithmetic("Div", write, out, a, b)


def _fmod(write: Writer, out: Value, a: Operand, b: Operand) -> str:
    return write.add("Mod", *(operand(write, x, out.dtype) for x in (a, b)), fmod=1)


def _where(write: Writer, out: Value, condition: Value, a: Operand, b: Operand) -> str:
    dtype = wide(out.dtype)
    chosen = write.add("Where", condition.name, operand(write, a, dtype), operand(write, b, dtype))
    return write.cast(Value(chosen, out.shape, dtype), out.dtype)


def _clamp(
    write: Writer, out: Value, x: Value, low: Operand | None = None, high: Operand | None = None
) -> str:
    y = x
    if low is not None:
        y = Value(_arithmetic("Max", write, out, y, low), out.shape, out.dtype)
    return write.cast(y, out.dtype) if high is None else _arithmetic("Min", write, out, y, high)


def _cast(write: Writer, out: Value, x: Value, *_: object) -> str:
    return write.cast(x, out.dtype)


def _shift_right(write: Writer, out: Value, x: Value, n: Number) -> str:
    """Shift and keep the sign, by a constant n: x >> n is floor(x / 2^n).

    ONNX shifts only numbers without a sign. With u = x + 2^63, x >> n is (u >> n) - (2^63 >> n).
    Exclusive or with -2^63 makes u's bits. A quotient takes several times as long.
    """
    if not isinstance(n, int) or not 0 <= n < 64:
        raise writer.UnknownOperationError("x >> n is converted for a constant n below 64 alone")
    lowest, by = (write.constant(number, torch.int64) for number in (-(1 << 63), n))
    bits = write.add("BitwiseXor", write.cast(x, torch.int64), lowest)
    bits, by = (write.add("Cast", number, to=UINT64) for number in (bits, by))
    shifted = write.add("BitShift", bits, by, direction="RIGHT")
    shifted = write.add("Cast", shifted, to=writer.code(torch.int64))
    least = (1 << 63 - n) if n else -(1 << 63)  # -2^63 has the bits of 2^63
    y = write.add("Sub", shifted, write.constant(least, torch.int64))
    return write.cast(Value(y, out.shape, torch.int64), out.dtype)


# The end of a slice that torch writes for "to the end".
END: Final = 2**63 - 1
REDUCTIONS: Final = {
    aten.sum: "ReduceSum", aten.mean: "ReduceMean", aten.amax: "ReduceMax", aten.amin: "ReduceMin",
    aten.prod: "ReduceProd",
}  # fmt: skip


def _view(write: Writer, out: Value, x: Value, *_: object) -> str:
    if out.shape == x.shape:
        return x.name
    # A size of 0 means "as before" to ONNX where allowzero is not set.
    return write.add("Reshape", x.name, write.shape(out.shape), allowzero=1)


def _expand(write: Writer, out: Value, x: Value, *_: object) -> str:
    return x.name if out.shape == x.shape else write.add("Expand", x.name, write.shape(out.shape))


def _permute(write: Writer, out: Value, x: Value, dims: Sequence[int]) -> str:
    return write.add("Transpose", x.name, perm=[x.axis(dim) for dim in dims])


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
    axes = write.ints([x.axis(dim)])
    return write.add("Slice", x.name, *bounds, axes, write.ints([step]))


def _select(write: Writer, out: Value, x: Value, dim: int, index: Size) -> str:
    return write.add("Gather", x.name, write.scalar(index, torch.int64), axis=x.axis(dim))


def _unsqueeze(write: Writer, out: Value, x: Value, dim: int) -> str:
    return write.add("Unsqueeze", x.name, write.ints([out.axis(dim)]))


def _cat(write: Writer, out: Value, parts: Sequence[Value], dim: int = 0) -> str:
    # torch leaves out parts of the one shape (0,), whatever the others have.
    joined = [part for part in parts if part.shape != (0,) or len(out.shape) == 1]
    names = [write.cast(part, out.dtype) for part in joined]
    return write.add("Concat", *names, axis=out.axis(dim))


def _split(
    write: Writer, out: Sequence[Value], x: Value, sizes: Sequence[Size], dim: int = 0
) -> list[str]:
    return write.add_many("Split", [x.name, write.shape(sizes)], len(out), axis=x.axis(dim))


def _pad(write: Writer, out: Value, x: Value, pads: Sequence[Size], value: Number = 0) -> str:
    # torch gives pairs from the last axis on; ONNX all befores and then all afters.
    axes = [len(x.shape) - 1 - i for i in range(len(pads) // 2)]
    amounts = write.shape([*pads[0::2], *pads[1::2]])
    return write.add("Pad", x.name, amounts, write.scalar(value, x.dtype), write.ints(axes))


def _flip(write: Writer, out: Value, x: Value, dims: Sequence[int]) -> str:
    if not x.shape:
        return x.name
    axes, n = write.ints([x.axis(dim) for dim in dims]), len(dims)
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
    dtype = wide(out.dtype)
    dims = dim if isinstance(dim, list) else [] if dim is None else [dim]
    axes = write.ints([x.axis(d) for d in dims] or range(len(x.shape)))
    total = write.add(operation, write.cast(x, dtype), axes, keepdims=int(keepdim))
    return write.cast(Value(total, out.shape, dtype), out.dtype)


def _argument(
    operation: str, write: Writer, out: Value, x: Value, dim: int, keepdim: bool = False
) -> str:
    """Find the first place of an extreme."""
    name = write.cast(x, wide(x.dtype))
    return write.add(operation, name, axis=x.axis(dim), keepdims=int(keepdim))


def _cumsum(write: Writer, out: Value, x: Value, dim: int, *_: object) -> str:
    return write.add("CumSum", write.cast(x, out.dtype), write.scalar(x.axis(dim), torch.int64))


def _topk(
    write: Writer, out: Sequence[Value], x: Value, k: Size, dim: int = -1, largest: bool = True,
    is_sorted: bool = True,
) -> list[str]:  # fmt: skip
    options = {"axis": x.axis(dim), "largest": int(largest), "sorted": 1}
    return write.add_many("TopK", [x.name, write.shape([k])], 2, **options)


def _along(operation: str, write: Writer, out: Value, x: Value, dim: int, *_: object) -> str:
    return write.add(operation, write.cast(x, out.dtype), axis=x.axis(dim))


def _gather(write: Writer, out: Value, x: Value, dim: int, index: Value, *_: object) -> str:
    if not x.shape:
        return write.add("Reshape", x.name, write.shape(out.shape))
    return write.add("GatherElements", x.name, write.cast(index, torch.int64), axis=x.axis(dim))


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
        raise writer.UnknownOperationError(f"scatter with reduce={reduce}")
    names, options = (x.name, write.cast(index, torch.int64), source_name), {"axis": x.axis(dim)}
    return write.add("ScatterElements", *names, **options, reduction=kinds[reduce])


def _index_select(write: Writer, out: Value, x: Value, dim: int, index: Value) -> str:
    return write.add("Gather", x.name, write.cast(index, torch.int64), axis=x.axis(dim))


def _embedding(write: Writer, out: Value, weight: Value, index: Value, *_: object) -> str:
    return _index_select(write, out, weight, 0, index)


def _coordinates(write: Writer, indices: Sequence[Value]) -> str:
    """Stack indices of one shape in a new last axis."""
    ndim = len(indices[0].shape)
    names = [write.cast(index, torch.int64) for index in indices]
    parts = [write.add("Unsqueeze", name, write.ints([ndim])) for name in names]
    return write.add("Concat", *parts, axis=ndim)


def _index(write: Writer, out: Value, x: Value, indices: Sequence[Value | None]) -> str:
    present = {axis: index for axis, index in enumerate(indices) if index is not None}
    if len(present) == 1:
        return _index_select(write, out, x, *present.popitem())
    return write.add("GatherND", x.name, _coordinates(write, [*present.values()]))


def _index_put(
    write: Writer, out: Value, x: Value, indices: Sequence[Value], source: Value,
    accumulate: bool = False,
) -> str:  # fmt: skip
    if any(index.dtype is torch.bool for index in indices):
        raise writer.UnknownOperationError("a mask as an index; use torch.where")
    reduction = "add" if accumulate else "none"
    at, name = _coordinates(write, indices), write.cast(source, x.dtype)
    return write.add("ScatterND", x.name, at, name, reduction=reduction)


def _convolution(
    write: Writer, out: Value, x: Value, weight: Value, bias: Value | None,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int,
) -> str:  # fmt: skip
    n = len(weight.shape) - 2
    strides, pads, dilations, more = (
        list(sizes) * (n if len(sizes) == 1 else 1)
        for sizes in (stride, padding, dilation, output_padding)
    )
    attributes = {
        "strides": strides,
        "dilations": dilations,
        "group": groups,
        "kernel_shape": list(weight.shape[2:]),
    }
    if not transposed:
        inputs = [part.name for part in (x, weight, bias) if part is not None]
        return write.add("Conv", *inputs, pads=pads * 2, **attributes)
    # More at the end is less padding there. What lies beyond all of x's windows is 0.
    ends = [pad - extra for pad, extra in zip(pads, more, strict=True)]
    cut = [max(end, 0) for end in ends]
    y = write.add("ConvTranspose", x.name, weight.name, pads=[*pads, *cut], **attributes)
    if cut != ends:
        beyond = [keep - end for keep, end in zip(cut, ends, strict=True)]
        axes = write.ints(list(range(2, n + 2)))
        amounts = write.ints([0] * n + beyond)
        y = write.add("Pad", y, amounts, write.constant(0.0, out.dtype), axes)
    if bias is None:
        return y
    return write.add("Add", y, write.add("Reshape", bias.name, write.ints([-1, *[1] * n])))


def _max_pool(
    write: Writer, out: Sequence[Value], x: Value, kernel_size: Sequence[int],
    stride: Sequence[int] = (), padding: Sequence[int] = (0,), dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> list[str]:  # fmt: skip
    kernel, strides, pads, dilations = (
        list(sizes) * (2 if len(sizes) == 1 else 1)
        for sizes in (kernel_size, stride or kernel_size, padding, dilation)
    )
    y, places = write.add_many(
        "MaxPool", [x.name], 2, kernel_shape=kernel, strides=strides, pads=pads * 2,
        dilations=dilations, ceil_mode=int(ceil_mode),
    )  # fmt: skip
    # ONNX counts the places over the whole tensor, and torch within each plane.
    return [y, write.add("Mod", places, write.constant(_area(x), torch.int64))]


def _area(x: Value) -> int:
    height, width = x.shape[-2:]
    if not isinstance(height, int) or not isinstance(width, int):
        raise writer.UnknownOperationError("pooling over the examples")
    return height * width


ROWS: Final[Rows] = {
    **{kind: partial(_arithmetic, operation) for kind, operation in ARITHMETIC.items()},
    **{kind: partial(_compared, operation) for kind, operation in COMPARISONS.items()},
    aten.div: _div, aten.fmod: _fmod, aten.where: _where, aten.clamp: _clamp,
    aten._to_copy: _cast, torch.ops.prims.convert_element_type: _cast,
    aten.__rshift__: _shift_right, aten.bitwise_right_shift: _shift_right,
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
    aten.gather: _gather, aten.scatter: _scatter, aten.scatter_reduce: _scatter,
    aten.embedding: _embedding, aten.index_select: _index_select, aten.index: _index,
    aten.index_put: _index_put, aten.convolution: _convolution,
    aten.max_pool2d_with_indices: _max_pool,
}  # fmt: skip
