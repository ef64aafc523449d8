"""The operations on each number, in ONNX's."""

from __future__ import annotations

from functools import partial
from typing import Final, TypeAlias

import torch

from lincoln_fn.compiler.onnx.writer import (
    DTYPES,
    Affine,
    Number,
    Reciprocal,
    Rows,
    UnknownOperationError,
    Value,
    Writer,
)

aten = torch.ops.aten

Operand: TypeAlias = Value | Number

BITS: Final = 64  # shifts are computed in int64 and uint64
UINT64: Final = 13
# Operations on numbers of the result's dtype.
ARITHMETIC: Final = {
    aten.abs: "Abs", aten.neg: "Neg", aten.exp: "Exp", aten.log: "Log", aten.sqrt: "Sqrt",
    aten.reciprocal: "Reciprocal", aten.sin: "Sin", aten.cos: "Cos", aten.tan: "Tan",
    aten.sinh: "Sinh", aten.cosh: "Cosh", aten.asin: "Asin", aten.acos: "Acos",
    aten.atan: "Atan", aten.asinh: "Asinh", aten.acosh: "Acosh", aten.atanh: "Atanh",
    aten.tanh: "Tanh", aten.sigmoid: "Sigmoid", aten.erf: "Erf", aten.relu: "Relu",
    aten.sign: "Sign", aten.floor: "Floor", aten.ceil: "Ceil", aten.round: "Round",
    aten.mul: "Mul", aten.pow: "Pow", aten.remainder: "Mod", aten.maximum: "Max",
    aten.minimum: "Min", aten.bitwise_and: "BitwiseAnd", aten.bitwise_or: "BitwiseOr",
    aten.bitwise_xor: "BitwiseXor", aten.bitwise_not: "BitwiseNot", aten.mm: "MatMul",
    aten.bmm: "MatMul",
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
    return 0 if isinstance(x, Affine) else 0.5 if isinstance(x, Reciprocal) else x


def _scaled(
    operation: str, write: Writer, out: Value, a: Operand, b: Operand, alpha: Number = 1
) -> str:
    """Add a sum or a difference, with alpha times b."""
    if alpha != 1:
        b = Value(_arithmetic("Mul", write, out, b, alpha), out.shape, out.dtype)
    return _arithmetic(operation, write, out, a, b)


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
    """Shift and keep the sign: x >> n is floor(x / 2^n).

    With u = x + 2^63, which is not negative, that is (u >> n) - (2^63 >> n). Exclusive or with
    -2^63 makes u's bits.
    """
    wide_x = write.cast(x, torch.int64)
    lowest = write.constant(-(1 << BITS - 1), torch.int64)
    shifted = _shift(write, write.add("BitwiseXor", wide_x, lowest), n, ">>")
    shifted = write.add("Sub", shifted, _shift(write, lowest, n, ">>"))
    return write.cast(Value(shifted, out.shape, torch.int64), out.dtype)


def _shift_left(write: Writer, out: Value, x: Value, n: Number) -> str:
    shifted = Value(_shift(write, x.name, n, "<<"), out.shape, torch.int64)
    return write.cast(shifted, out.dtype)


def _shift(write: Writer, x: str, n: Number, sign: str) -> str:
    """Shift bits, which are not a sign and a number to ONNX, and return them as int64."""
    if not isinstance(n, int) or not 0 <= n < BITS:
        raise UnknownOperationError(f"x {sign} n is converted for a constant n below {BITS} alone")
    bits = write.add("Cast", x, to=UINT64)
    by = write.add("Cast", write.constant(n, torch.int64), to=UINT64)
    direction = {"<<": "LEFT", ">>": "RIGHT"}[sign]
    shifted = write.add("BitShift", bits, by, direction=direction)
    return write.add("Cast", shifted, to=DTYPES[torch.int64])


ROWS: Final[Rows] = {
    **{kind: partial(_arithmetic, operation) for kind, operation in ARITHMETIC.items()},
    **{kind: partial(_compared, operation) for kind, operation in COMPARISONS.items()},
    aten.add: partial(_scaled, "Add"), aten.sub: partial(_scaled, "Sub"), aten.div: _div,
    aten.fmod: _fmod, aten.where: _where, aten.clamp: _clamp, aten._to_copy: _cast,
    aten.__rshift__: _shift_right, aten.bitwise_right_shift: _shift_right,
    aten.__lshift__: _shift_left, aten.bitwise_left_shift: _shift_left,
}  # fmt: skip
