"""Quotients, remainders and shifts, in ONNX's operations, which round integers towards 0."""

from __future__ import annotations

from typing import Final

import torch

from lincoln_fn.compiler.onnx.elementwise import Operand, arithmetic, operand
from lincoln_fn.compiler.onnx.sizes import Number
from lincoln_fn.compiler.onnx.writer import UINT64, Rows, UnknownOperationError, Value, Writer, code

aten = torch.ops.aten

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
    """Shift and keep the sign: x >> n is floor(x / 2^n)."""
    if not isinstance(n, int) or not 0 <= n < BITS:
        raise UnknownOperationError(f"x >> n is converted for a constant n below {BITS} alone")
    given = write.cast(x, torch.int64)
    if n == BITS - 1:  # 2^63 is no int64
        is_negative = write.add("Less", given, write.constant(0, torch.int64))
        made = write.add("Neg", write.cast(Value(is_negative, (), torch.bool), torch.int64))
    else:
        divisor = write.constant(1 << n, torch.int64)
        exact = write.add("Sub", given, write.add("Mod", given, divisor))
        made = write.add("Div", exact, divisor)
    return write.cast(Value(made, out.shape, torch.int64), out.dtype)


def _shift_left(write: Writer, out: Value, x: Value, n: Number) -> str:
    if not isinstance(n, int) or not 0 <= n < BITS:
        raise UnknownOperationError(f"x << n is converted for a constant n below {BITS} alone")
    bits = write.add("Cast", x.name, to=UINT64)
    by = write.add("Cast", write.constant(n, torch.int64), to=UINT64)
    shifted = write.add("BitShift", bits, by, direction="LEFT")
    return write.add("Cast", shifted, to=code(out.dtype))


ROWS: Final[Rows] = {
    aten.div: _div, aten.remainder: _remainder, aten.fmod: _fmod,
    aten.__rshift__: _shift_right, aten.bitwise_right_shift: _shift_right,
    aten.__lshift__: _shift_left, aten.bitwise_left_shift: _shift_left,
}  # fmt: skip
