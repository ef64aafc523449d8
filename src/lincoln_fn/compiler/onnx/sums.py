"""Sums, means, extremes and matrix products, in ONNX's operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import wraps
from typing import Final

import torch

from lincoln_fn.compiler.onnx.arrays import axis_of
from lincoln_fn.compiler.onnx.elementwise import arithmetic, wide
from lincoln_fn.compiler.onnx.sizes import Affine, Number
from lincoln_fn.compiler.onnx.writer import Row, Rows, UnknownOperationError, Value, Writer

aten = torch.ops.aten


def _axes(x: Value, dim: object) -> list[int]:
    if dim is None or dim == []:
        return list(range(len(x.shape)))
    dims = dim if isinstance(dim, list | tuple) else [dim]
    return [axis_of(d, len(x.shape)) for d in dims]


def _reduced(operation: str) -> Row:
    """Make the row of a reduction over axes, in the result's dtype."""

    def row(
        write: Writer, out: Value, x: Value, dim: object = None, keepdim: object = False, *_: object
    ) -> str:
        dtype = wide(out.dtype)
        axes = write.ints(_axes(x, dim if not isinstance(dim, torch.dtype) else None))
        made = write.add(operation, write.cast(x, dtype), axes, keepdims=int(keepdim is True))
        return write.cast(Value(made, out.shape, dtype), out.dtype)

    return row


def _any(operation: str) -> Row:
    """Make the row of `any` or `all`: a sum or product of 0 and 1, also of none of them."""

    def row(write: Writer, out: Value, x: Value, dim: object = None, keepdim: bool = False) -> str:
        as_bool = Value(write.cast(x, torch.bool), x.shape, torch.bool)
        number = write.cast(as_bool, torch.int32)
        number = write.add(operation, number, write.ints(_axes(x, dim)), keepdims=int(keepdim))
        made = write.cast(Value(number, out.shape, torch.int32), torch.bool)
        return write.cast(Value(made, out.shape, torch.bool), out.dtype)

    return row


def _argument(operation: str) -> Row:
    """Make the row of `argmax` or `argmin`: the first place of an extreme."""

    def row(
        write: Writer, out: Value, x: Value, dim: int | None = None, keepdim: bool = False
    ) -> str:
        name = write.cast(x, wide(x.dtype))
        if dim is None:
            flat = write.add("Reshape", name, write.ints([-1]))
            place = write.add(operation, flat, axis=0, keepdims=0)
            return write.add("Reshape", place, write.ints([1] * len(out.shape)))
        axis = axis_of(dim, len(x.shape))
        return write.add(operation, name, axis=axis, keepdims=int(keepdim))

    return row


def _extreme(operation: str) -> Row:
    """Make the row of `max` or `min`: of all numbers, or along an axis with its places."""

    def row(
        write: Writer, out: Value | Sequence[Value], x: Value, dim: int | None = None,
        keepdim: bool = False,
    ) -> list[str] | str:  # fmt: skip
        reduced, argument = _reduced(f"Reduce{operation}"), _argument(f"Arg{operation}")
        if isinstance(out, Value):
            whole: str = reduced(write, out, x)
            return whole
        return [
            reduced(write, out[0], x, dim, keepdim), argument(write, out[1], x, dim, keepdim)
        ]  # fmt: skip

    return row


def _cumsum(write: Writer, out: Value, x: Value, dim: int, *_: object) -> str:
    axis = write.constant(axis_of(dim, len(x.shape)), torch.int64)
    return write.add("CumSum", write.cast(x, out.dtype), axis)


def _topk(
    write: Writer, out: Sequence[Value], x: Value, k: int, dim: int = -1, largest: bool = True,
    is_sorted: bool = True,
) -> list[str]:  # fmt: skip
    axis = axis_of(dim, len(x.shape))
    return write.add_many(
        "TopK", [x.name, write.shape([k])], 2, axis=axis, largest=int(largest), sorted=1
    )


def _sort(
    write: Writer, out: Sequence[Value], x: Value, dim: int = -1, descending: bool = False
) -> list[str]:
    axis = axis_of(dim, len(x.shape))
    k = write.shape([x.shape[axis]])
    return write.add_many("TopK", [x.name, k], 2, axis=axis, largest=int(descending), sorted=1)


def _along(operation: str) -> Row:
    """Make the row of softmax or log_softmax."""

    def row(write: Writer, out: Value, x: Value, dim: int, *_: object) -> str:
        axis = axis_of(dim, len(x.shape))
        return write.add(operation, write.cast(x, out.dtype), axis=axis)

    return row


def _product(write: Writer, out: Value, a: Value, b: Value) -> str:
    return arithmetic(write, out, "MatMul", a, b)


def _sum_and_product(
    write: Writer, out: Value, c: Value, a: Value, b: Value, *, beta: Number = 1, alpha: Number = 1
) -> str:
    product = Value(_product(write, out, a, b), out.shape, out.dtype)
    if alpha != 1:
        product = Value(arithmetic(write, out, "Mul", product, alpha), out.shape, out.dtype)
    if beta == 0:
        return product.name
    scaled = Value(arithmetic(write, out, "Mul", c, beta), out.shape, out.dtype)
    return arithmetic(write, out, "Add", scaled, product)


def _vector_norm(
    write: Writer, out: Value, x: Value, p: Number = 2, dim: object = None, keepdim: bool = False,
    *_: object,
) -> str:  # fmt: skip
    axes, keepdims = write.ints(_axes(x, dim)), int(keepdim)
    given = write.cast(x, out.dtype)
    if p in (1, 2):
        return write.add(f"ReduceL{int(p)}", given, axes, keepdims=keepdims)
    size = write.add("Abs", given)
    if p == math.inf:
        return write.add("ReduceMax", size, axes, keepdims=keepdims)
    if not isinstance(p, int | float) or p <= 0:
        raise UnknownOperationError(f"a norm with ord={p}")
    powers = write.add("Pow", size, write.constant(p, out.dtype))
    total = write.add("ReduceSum", powers, axes, keepdims=keepdims)
    return write.add("Pow", total, write.constant(1 / p, out.dtype))


def _variance(
    write: Writer, out: Value, x: Value, dim: object = None, *, correction: float | None = None,
    keepdim: bool = False,
) -> str:  # fmt: skip
    axes = _axes(x, dim)
    counts = [x.shape[axis] for axis in axes]
    n = math.prod(count for count in counts if isinstance(count, int))
    lost = 1 if correction is None else correction
    of_batch = [count for count in counts if isinstance(count, Affine)]
    if len(of_batch) > 1 or (of_batch and not isinstance(lost, int)):
        raise UnknownOperationError("a variance over the examples and more that depends on them")
    divisor: Number = float(max(n - lost, 0))
    if of_batch:
        divisor = Affine(of_batch[0].scale * n, of_batch[0].offset * n - int(lost))
    mean = write.add("ReduceMean", x.name, write.ints(axes), keepdims=1)
    centred = write.add("Sub", x.name, mean)
    total = write.add("ReduceSumSquare", centred, write.ints(axes), keepdims=int(keepdim))
    return write.add("Div", total, write.scalar(divisor, out.dtype))


def _of_axes(row: Row) -> Row:
    """Let a row take a tensor without axes, as one number along an axis."""

    @wraps(row)
    def with_axis(
        write: Writer, out: Value | Sequence[Value], x: Value, *given: object, **named: object
    ) -> list[str] | str:
        if x.shape:
            made: list[str] | str = row(write, out, x, *given, **named)
            return made
        along = Value(write.add("Reshape", x.name, write.ints([1])), (1,), x.dtype)
        made = row(write, out, along, *given, **named)
        if isinstance(made, str):
            return write.add("Reshape", made, write.ints([]))
        return [write.add("Reshape", name, write.ints([])) for name in made]

    return with_axis


ALONG_AXES: Final[Rows] = {
    aten.sum: _reduced("ReduceSum"), aten.mean: _reduced("ReduceMean"),
    aten.amax: _reduced("ReduceMax"), aten.amin: _reduced("ReduceMin"),
    aten.prod: _reduced("ReduceProd"), aten.any: _any("ReduceSum"), aten.all: _any("ReduceProd"),
    aten.argmax: _argument("ArgMax"), aten.argmin: _argument("ArgMin"), aten.max: _extreme("Max"),
    aten.min: _extreme("Min"), aten.cumsum: _cumsum, aten.topk: _topk, aten.sort: _sort,
    aten._softmax: _along("Softmax"), aten._log_softmax: _along("LogSoftmax"),
    aten.linalg_vector_norm: _vector_norm, aten.var: _variance,
}  # fmt: skip
ROWS: Final[Rows] = {
    **{kind: _of_axes(row) for kind, row in ALONG_AXES.items()},
    aten.mm: _product, aten.bmm: _product, aten.mv: _product, aten.dot: _product,
    aten.addmm: _sum_and_product, aten.baddbmm: _sum_and_product,
}  # fmt: skip
