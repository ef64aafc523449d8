"""The operations on each number, in ONNX's."""

from __future__ import annotations

from functools import partial
from typing import Final, TypeAlias

import torch

from lincoln_fn.compiler.onnx import writer
from lincoln_fn.compiler.onnx.writer import Number, OfBatch, Rows, Value, Writer, code

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
    return x if not isinstance(x, OfBatch) else 0 if x.is_whole else 0.5


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
    shifted = write.add("Cast", shifted, to=code(torch.int64))
    least = (1 << 63 - n) if n else -(1 << 63)  # -2^63 has the bits of 2^63
    y = write.add("Sub", shifted, write.constant(least, torch.int64))
    return write.cast(Value(y, out.shape, torch.int64), out.dtype)


ROWS: Final[Rows] = {
    **{kind: partial(_arithmetic, operation) for kind, operation in ARITHMETIC.items()},
    **{kind: partial(_compared, operation) for kind, operation in COMPARISONS.items()},
    aten.div: _div, aten.fmod: _fmod, aten.where: _where, aten.clamp: _clamp,
    aten._to_copy: _cast, torch.ops.prims.convert_element_type: _cast,
    aten.__rshift__: _shift_right, aten.bitwise_right_shift: _shift_right,
}  # fmt: skip
