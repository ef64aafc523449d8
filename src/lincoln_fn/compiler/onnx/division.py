"""Quotients, remainders and shifts, in ONNX's operations, which round integers towards 0."""

from __future__ import annotations

from typing import Final

import torch

from lincoln_fn.compiler.onnx.elementwise import Operand, arithmetic, operand
from lincoln_fn.compiler.onnx.sizes import Number
from lincoln_fn.compiler.onnx.writer import (
    DTYPES,
    UINT64,
    Rows,
    UnknownOperationError,
    Value,
    Writer,
)

aten = torch.ops.aten

INT64: Final = DTYPES[torch.int64]
BITS: Final = 64  # shifts are computed in int64 and uint64


def _div(
    write: Writer, out: Value, a: Operand, b: Operand, rounding_mode: str | None = None
) -> str:
    if rounding_mode is None:
        return arithmetic(write, out, "Div", a, b)
    if out.dtype.is_floating_point:
        if rounding_mode == "floor":
            return _floor(write, out, a, b)
        quotient = arithmetic(write, out, "Div", a, b)
        sign, size = write.add("Sign", quotient), write.add("Floor", write.add("Abs", quotient))
        return write.add("Mul", sign, size)
    if rounding_mode == "trunc":  # as ONNX divides integers
        return arithmetic(write, out, "Div", a, b)
    rest = Value(arithmetic(write, out, "Mod", a, b), out.shape, out.dtype)
    exact = Value(arithmetic(write, out, "Sub", a, rest), out.shape, out.dtype)
    return arithmetic(write, out, "Div", exact, b)


def _floor(write: Writer, out: Value, a: Operand, b: Operand) -> str:
    """Divide floats and round down, from the remainder: 1 / 0.1 rounds to 10, and 9 fit."""
    a_name, b_name = operand(write, a, out.dtype), operand(write, b, out.dtype)
    rest = write.add("Mod", a_name, b_name, fmod=1)
    whole = write.add("Round", write.add("Div", write.add("Sub", a_name, rest), b_name))
    less = write.add("Sub", whole, write.constant(1.0, out.dtype))
    floor = write.add("Where", _has_other_sign(write, out, rest, b_name), less, whole)
    by_zero = write.add("Equal", b_name, write.constant(0.0, out.dtype))
    return write.add("Where", by_zero, write.add("Div", a_name, b_name), floor)


def _has_other_sign(write: Writer, out: Value, rest: str, b: str) -> str:
    """Say where a remainder with the sign of the dividend has not that of the divisor."""
    zero = write.constant(0.0, out.dtype)
    differ = write.add("Xor", write.add("Less", rest, zero), write.add("Less", b, zero))
    return write.add("And", differ, write.add("Not", write.add("Equal", rest, zero)))


def _remainder(write: Writer, out: Value, a: Operand, b: Operand) -> str:
    if not out.dtype.is_floating_point:
        return arithmetic(write, out, "Mod", a, b)
    b_name = operand(write, b, out.dtype)
    rest = write.add("Mod", operand(write, a, out.dtype), b_name, fmod=1)
    moved = write.add("Add", rest, b_name)
    return write.add("Where", _has_other_sign(write, out, rest, b_name), moved, rest)


def _fmod(write: Writer, out: Value, a: Operand, b: Operand) -> str:
    operands = (operand(write, x, out.dtype) for x in (a, b))
    return write.add("Mod", *operands, fmod=1)


def _shift_right(write: Writer, out: Value, x: Value, n: Number) -> str:
    """Shift and keep the sign: x >> n is floor(x / 2^n).

    With u = x + 2^63, which is not negative, that is (u >> n) - (2^63 >> n). Exclusive or with
    -2^63 makes u's bits.
    """
    given = write.cast(x, torch.int64)
    lowest = write.constant(-(1 << BITS - 1), torch.int64)
    shifted = _shift(write, write.add("BitwiseXor", given, lowest), n, ">>")
    made = write.add("Sub", shifted, _shift(write, lowest, n, ">>"))
    return write.cast(Value(made, out.shape, torch.int64), out.dtype)


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
    return write.add("Cast", write.add("BitShift", bits, by, direction=direction), to=INT64)


ROWS: Final[Rows] = {
    aten.div: _div, aten.remainder: _remainder, aten.fmod: _fmod,
    aten.__rshift__: _shift_right, aten.bitwise_right_shift: _shift_right,
    aten.__lshift__: _shift_left, aten.bitwise_left_shift: _shift_left,
}  # fmt: skip
