"""Elementwise operations of a traced step as C++, for the kernel that updates by a product."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch.fx import Node

from lincoln_fn.fastpath import Argument, Operation

aten = torch.ops.aten

# Formulas of the operands and of named arguments.
_FORMULAS: Final[dict[Operation, str]] = {
    aten.add.Tensor: "{0} + {1}",
    aten.sub.Tensor: "{0} - {1}",
    aten.mul.Tensor: "{0} * {1}",
    aten.div.Tensor: "{0} / {1}",
    aten.neg.default: "{0}.neg()",
    aten.abs.default: "{0}.abs()",
    aten.sqrt.default: "{0}.sqrt()",
    aten.maximum.default: "at::vec::maximum({0}, {1})",
    aten.minimum.default: "at::vec::minimum({0}, {1})",
    aten.addcmul.default: "at::vec::fmadd({value} * {1}, {2}, {0})",
    aten.addcdiv.default: "{0} + {value} * {1} / {2}",
}
# From the nearer end, as torch does: from the other one, digits would be lost.
_LERP: Final = (
    "at::vec::fmadd({2}, {1} - {0}, {0})",
    "at::vec::fmadd({2} - Vec(1.0f), {1} - {0}, {1})",
)


def is_known(node: Node) -> bool:
    """Return whether a node's operation can be written in C++."""
    arguments = [*node.args, *node.kwargs.values()]
    numbers = [x for x in arguments if not isinstance(x, Node)]
    is_finite = all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers)
    return is_finite and set(node.kwargs) <= {"value"} and _formula(node) is not None


def in_cpp(
    operations: Sequence[Node], names: Mapping[Node, str]
) -> tuple[list[str], dict[Node, str]]:
    """Write operations in C++, each as one constant."""
    every = {**names, **{node: f"x{i}" for i, node in enumerate(operations)}}
    return [f"const Vec {every[x]} = {_write(x, every)};" for x in operations], every


def _write(node: Node, names: Mapping[Node, str]) -> str:
    formula = _formula(node)
    assert formula is not None  # the caller has asked `is_known`
    value = _operand(node.kwargs.get("value", 1), names)
    return formula.format(*(_operand(x, names) for x in node.args), value=value)


def _formula(node: Node) -> str | None:
    if node.target is not aten.lerp.Scalar:
        return _FORMULAS.get(node.target)
    weight: Argument = node.args[2]
    return _LERP[abs(weight) >= 0.5]


def _operand(x: Argument, names: Mapping[Node, str]) -> str:
    return names[x] if isinstance(x, Node) else f"Vec({float(x)!r}f)"
