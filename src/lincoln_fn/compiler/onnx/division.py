"""Quotients, remainders and shifts, in ONNX's operations, which round integers towards 0."""

from __future__ import annotations

from typing import Final

import torch

from lincoln_fn.compiler.onnx.elementwise import Operand, arithmetic, operand
from lincoln_fn.compiler.onnx.sizes import Number
from lincoln_fn.compiler.onnx.writer import UINT64, Rows, UnknownOperationError, Value, Writer, code

aten = torch.ops.aten


def _div(
    write: Writer, out: Value, a: Operand, b: Operand, rounding_mode: str | None = None
) -> str:
    if rounding_mode is None:
        return arithmetic(write, out, "Div", a, b)
    if out.dtype.is_floating_point:
        quotient = arithmetic(write, out, "Div", a, b)
        if rounding_mode == "floor":
            return write.add("Floor", quotient)
        sign, size = write.add("Sign", quotient), write.add("Floor", write.add("Abs", quotient))
        return write.add("Mul", sign, size)
    if rounding_mode == "trunc":  # as ONNX divides integers
        return arithmetic(write, out, "Div", a, b)
    rest = arithmetic(write, out, "Mod", a, b)
    exact = write.add("Sub", operand(write, a, out.dtype), rest)
    return write.add("Div", exact, operand(write, b, out.dtype))


def _remainder(write: Writer, out: Value, a: Operand, b: Operand) -> str:
    if not out.dtype.is_floating_point:
        return arithmetic(write, out, "Mod", a, b)
    whole = write.add("Mul", _div(write, out, a, b, "floor"), operand(write, b, out.dtype))
    return write.add("Sub", operand(write, a, out.dtype), whole)


def _fmod(write: Writer, out: Value, a: Operand, b: Operand) -> str:
    operands = (operand(write, x, out.dtype) for x in (a, b))
    return write.add("Mod", *operands, fmod=1)


def _shift_right(write: Writer, out: Value, x: Value, n: Number) -> str:
    """Shift and keep the sign: x >> n is floor(x / 2^n)."""
    if not isinstance(n, int) or out.dtype is not torch.int64:
        raise UnknownOperationError("x >> n is converted for int64 and a constant n alone")
    if n == 63:
        return write.cast(
            Value(write.add("Less", x.name, write.constant(0, torch.int64)), (), torch.bool),
            torch.int64,
        )
    divisor = write.constant(1 << n, torch.int64)
    exact = write.add("Sub", x.name, write.add("Mod", x.name, divisor))
    return write.add("Div", exact, divisor)


def _shift_left(write: Writer, out: Value, x: Value, n: Number) -> str:
    if not isinstance(n, int):
        raise UnknownOperationError("x << n is converted for a constant n alone")
    bits = write.add("Cast", x.name, to=UINT64)
    by = write.add("Cast", write.constant(n, torch.int64), to=UINT64)
    shifted = write.add("BitShift", bits, by, direction="LEFT")
    return write.add("Cast", shifted, to=code(out.dtype))


ROWS: Final[Rows] = {
    aten.div: _div, aten.remainder: _remainder, aten.fmod: _fmod,
    aten.__rshift__: _shift_right, aten.bitwise_right_shift: _shift_right,
    aten.__lshift__: _shift_left, aten.bitwise_left_shift: _shift_left,
}  # fmt: skip
