"""The operations on each number, in ONNX's."""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import torch

from lincoln_fn.compiler.onnx.sizes import Affine, Number, Reciprocal
from lincoln_fn.compiler.onnx.writer import Row, Rows, Value, Writer

aten = torch.ops.aten

Operand: TypeAlias = Value | Number

UNARY: Final = {
    aten.abs: "Abs", aten.neg: "Neg", aten.exp: "Exp", aten.log: "Log", aten.sqrt: "Sqrt",
    aten.reciprocal: "Reciprocal", aten.sin: "Sin", aten.tan: "Tan", aten.sinh: "Sinh",
    aten.cosh: "Cosh", aten.asin: "Asin", aten.acos: "Acos", aten.atan: "Atan",
    aten.asinh: "Asinh", aten.acosh: "Acosh", aten.atanh: "Atanh", aten.tanh: "Tanh",
    aten.sigmoid: "Sigmoid", aten.erf: "Erf", aten.relu: "Relu", aten.sign: "Sign",
}  # fmt: skip
ARITHMETIC: Final = {
    aten.mul: "Mul", aten.maximum: "Max", aten.minimum: "Min", aten.bitwise_and: "BitwiseAnd",
    aten.bitwise_or: "BitwiseOr", aten.bitwise_xor: "BitwiseXor",
}  # fmt: skip
OF_BOOLS: Final = {
    "BitwiseAnd": "And", "BitwiseOr": "Or", "BitwiseXor": "Xor", "Add": "Or", "Mul": "And",
    "Max": "Or", "Min": "And",
}  # fmt: skip
LOGICAL: Final = {aten.logical_and: "And", aten.logical_or: "Or", aten.logical_xor: "Xor"}
COMPARISONS: Final = {
    aten.eq: "Equal", aten.lt: "Less", aten.le: "LessOrEqual", aten.gt: "Greater",
    aten.ge: "GreaterOrEqual",
}  # fmt: skip


def operand(write: Writer, x: Operand, dtype: torch.dtype) -> str:
    """Give a tensor or a number in this dtype."""
    return write.cast(x, dtype) if isinstance(x, Value) else write.scalar(x, dtype)


def arithmetic(write: Writer, out: Value, operation: str, *operands: Operand) -> str:
    """Add an operation on tensors or numbers in the result's dtype."""
    dtype = wide(out.dtype)
    if out.dtype is torch.bool and operation in OF_BOOLS:
        operation, dtype = OF_BOOLS[operation], torch.bool
    made = write.add(operation, *(operand(write, x, dtype) for x in operands))
    return write.cast(Value(made, out.shape, dtype), out.dtype)


def wide(dtype: torch.dtype) -> torch.dtype:
    """Give a dtype that the operations have: integers of few bits are computed in int32."""
    return torch.int32 if dtype in (torch.bool, torch.uint8, torch.int8, torch.int16) else dtype


def common_dtype(*operands: Operand) -> torch.dtype:
    """Give the dtype in which torch compares."""
    tensors = [
        torch.empty((1,) * len(x.shape), dtype=x.dtype) for x in operands if isinstance(x, Value)
    ]
    numbers = [_example(x) for x in operands if not isinstance(x, Value)]
    return torch.result_type(tensors[0], (tensors + numbers)[-1])


def _example(x: Number) -> bool | int | float:
    return 0 if isinstance(x, Affine) else 0.5 if isinstance(x, Reciprocal) else x


def compared(operation: str) -> Row:
    """Make the row of a comparison."""

    def row(write: Writer, out: Value, a: Operand, b: Operand) -> str:
        dtype = wide(common_dtype(a, b))
        return write.add(operation, operand(write, a, dtype), operand(write, b, dtype))

    return row


def _ne(write: Writer, out: Value, a: Operand, b: Operand) -> str:
    return write.add("Not", compared("Equal")(write, out, a, b))


def _scaled(operation: str) -> Row:
    """Make the row of a sum or a difference, with alpha times b."""

    def row(write: Writer, out: Value, a: Operand, b: Operand, alpha: Number = 1) -> str:
        if alpha != 1:
            b = Value(arithmetic(write, out, "Mul", b, alpha), out.shape, out.dtype)
        return arithmetic(write, out, operation, a, b)

    return row


def _pow(write: Writer, out: Value, a: Operand, b: Operand) -> str:
    return arithmetic(write, out, "Pow", a, b)


def where(write: Writer, out: Value, condition: Value, a: Operand, b: Operand) -> str:
    """Choose from a where the condition is true, and from b elsewhere."""
    dtype = wide(out.dtype)
    made = write.add("Where", condition.name, operand(write, a, dtype), operand(write, b, dtype))
    return write.cast(Value(made, out.shape, dtype), out.dtype)


def _clamp(
    write: Writer, out: Value, x: Value, low: Operand | None = None, high: Operand | None = None
) -> str:
    y = x
    if low is not None:
        y = Value(arithmetic(write, out, "Max", y, low), out.shape, out.dtype)
    return write.cast(y, out.dtype) if high is None else arithmetic(write, out, "Min", y, high)


def _clamp_max(write: Writer, out: Value, x: Value, high: Operand) -> str:
    return _clamp(write, out, x, None, high)


def _cos(write: Writer, out: Value, x: Value) -> str:
    """cos(x) = sin(x + pi / 2): not every runtime has a cosine in float64."""
    given = write.cast(x, out.dtype)
    if out.dtype is not torch.float64:
        return write.add("Cos", given)
    return write.add("Sin", write.add("Add", given, write.constant(math.pi / 2, out.dtype)))


def _expm1(write: Writer, out: Value, x: Value) -> str:
    """e^x - 1 = 2 sinh(x / 2) e^(x / 2), which keeps its digits where x is small."""
    # Below, the result is -1 in every dtype, and not -inf times 0.
    half = write.add("Max", write.cast(x, out.dtype), write.constant(-100.0, out.dtype))
    half = write.add("Mul", half, write.constant(0.5, out.dtype))
    twice = write.add("Mul", write.add("Sinh", half), write.constant(2.0, out.dtype))
    return write.add("Mul", twice, write.add("Exp", half))


def _log1p(write: Writer, out: Value, x: Value) -> str:
    """log(1 + x) = 2 atanh(x / (2 + x)), which keeps its digits where x is small."""
    one, two = write.constant(1.0, out.dtype), write.constant(2.0, out.dtype)
    given = write.cast(x, out.dtype)
    quotient = write.add("Div", given, write.add("Add", given, two))
    small = write.add("Mul", two, write.add("Atanh", quotient))
    large = write.add("Log", write.add("Add", given, one))
    return write.add("Where", write.add("Less", given, one), small, large)


def _log_to(base: float) -> Row:
    def row(write: Writer, out: Value, x: Value) -> str:
        log = write.add("Log", write.cast(x, out.dtype))
        return write.add("Mul", log, write.constant(base, out.dtype))

    return row


def _rsqrt(write: Writer, out: Value, x: Value) -> str:
    return write.add("Reciprocal", write.add("Sqrt", write.cast(x, out.dtype)))


def _erfc(write: Writer, out: Value, x: Value) -> str:
    one = write.constant(1.0, out.dtype)
    return write.add("Sub", one, write.add("Erf", write.cast(x, out.dtype)))


def _rounded(operation: str) -> Row:
    """Make the row of a rounding, which leaves integers as they are."""

    def row(write: Writer, out: Value, x: Value) -> str:
        return write.add(operation, x.name) if x.dtype.is_floating_point else x.name

    return row


def _trunc(write: Writer, out: Value, x: Value) -> str:
    if not x.dtype.is_floating_point:
        return x.name
    return write.add("Mul", write.add("Sign", x.name), write.add("Floor", write.add("Abs", x.name)))


def _not(write: Writer, out: Value, x: Value) -> str:
    if x.dtype is not torch.bool and out.dtype is torch.bool:
        return write.add("Not", write.cast(x, torch.bool))
    return write.add("Not" if x.dtype is torch.bool else "BitwiseNot", x.name)


def _is(operation: str) -> Row:
    """Make the row of isinf or isnan, which ONNX asks of float32 and float64."""

    def row(write: Writer, out: Value, x: Value) -> str:
        dtype = x.dtype if x.dtype is torch.float64 else torch.float32
        return write.add(operation, write.cast(x, dtype))

    return row


def _leaky_relu(write: Writer, out: Value, x: Value, slope: Number = 0.01) -> str:
    positive = write.add("Greater", x.name, write.constant(0.0, x.dtype))
    scaled = write.add("Mul", x.name, write.scalar(slope, x.dtype))
    return write.add("Where", positive, x.name, scaled)


def _cast(write: Writer, out: Value, x: Value, *_: object) -> str:
    return write.cast(x, out.dtype)


def unary(operation: str) -> Row:
    """Make the row of a function of one number."""

    def row(write: Writer, out: Value, x: Value) -> str:
        return arithmetic(write, out, operation, x)

    return row


def binary(operation: str) -> Row:
    """Make the row of a function of two numbers of the result's dtype."""

    def row(write: Writer, out: Value, a: Operand, b: Operand) -> str:
        return arithmetic(write, out, operation, a, b)

    return row


def logical(operation: str) -> Row:
    """Make the row of a function of two truth values."""

    def row(write: Writer, out: Value, a: Value, b: Value) -> str:
        return write.add(operation, write.cast(a, torch.bool), write.cast(b, torch.bool))

    return row


ROWS: Final[Rows] = {
    **{kind: unary(operation) for kind, operation in UNARY.items()},
    **{kind: binary(operation) for kind, operation in ARITHMETIC.items()},
    **{kind: logical(operation) for kind, operation in LOGICAL.items()},
    **{kind: compared(operation) for kind, operation in COMPARISONS.items()},
    aten.add: _scaled("Add"), aten.sub: _scaled("Sub"), aten.pow: _pow,
    aten.ne: _ne, aten.where: where, aten.floor: _rounded("Floor"), aten.ceil: _rounded("Ceil"),
    aten.round: _rounded("Round"),
    aten.clamp: _clamp, aten.clamp_min: _clamp, aten.clamp_max: _clamp_max,
    aten.cos: _cos, aten.expm1: _expm1, aten.log1p: _log1p, aten.rsqrt: _rsqrt, aten.erfc: _erfc,
    aten.log2: _log_to(1.4426950408889634), aten.log10: _log_to(0.4342944819032518),
    aten.trunc: _trunc, aten.logical_not: _not, aten.bitwise_not: _not, aten.isinf: _is("IsInf"),
    aten.isnan: _is("IsNaN"), aten.leaky_relu: _leaky_relu, aten._to_copy: _cast,
}  # fmt: skip
