"""Updates in a compiled step that follow element by element from one product.

An optimizer updates W by dW = x^T g, and also the momentum, or the two means of Adam. In place,
product_update.cpp does so with each tile of dW as soon as its sums are complete, and dW is neither
written to memory nor read. This is faster if the sums have few terms, or if the leaves are larger
than the processor's caches. Without it, the step of mlp took 1.50 of the time with AdamW, and that
of mlp-wide 1.49, on a Zen 5; on a Xeon about 1.05.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.fx import Graph, Node, has_side_effect

from lincoln_fn.compiler.cpp_kernel import POINTERS, Plan, are_called_for, cpp_kernel
from lincoln_fn.compiler.inductor.settings import threads_for
from lincoln_fn.compiler.passes.products import is_turned, without_gaps
from lincoln_fn.compiler.passes.rewriting import base_of, kind_of, readers_of, tensors_of
from lincoln_fn.fastpath import Argument, Operation, goes_to_mkl

aten = torch.ops.aten

# With fewer multiply-adds, or fewer rows or columns, a product and a loop take less time.
_LEAST: Final = 2**20
_SIDE: Final = 64
# The kernel takes less time if a sum has at most so many terms, or each leaf so many numbers.
_FEW: Final = 2**8
_LARGE: Final = 2**22
# Up to so many terms are added one after another in float32.
_MOST: Final = 2**10
# Dtypes that single numbers may have.
_NUMBERS: Final = (torch.float32, torch.float64, torch.int64)
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


class Update(NamedTuple):
    """Leaves that are updated by `formulas` in C++, of a product and some numbers."""

    # They have the product's shape, or that of its transpose if `are_turned`.

    product: Node
    are_turned: bool
    leaves: list[Node]
    numbers: list[Node]
    formulas: str


def supports(a: Tensor, b: Tensor) -> bool:
    """Return whether the kernel is to update leaves by a product."""
    if not goes_to_mkl(a, b):
        return False
    (rows, terms), columns = a.shape, b.shape[1]
    is_large = min(rows, columns) >= _SIDE and rows * terms * columns >= _LEAST
    most = _MOST if rows * columns >= _LARGE else _FEW
    return is_large and terms <= most and are_called_for(a)


@has_side_effect
def change(
    a: Tensor,
    b: Tensor,
    is_finite: Tensor,
    leaves: list[Tensor],
    numbers: list[Tensor],
    formulas: str,
) -> None:
    """Update leaves in place by a b, by formulas in C++, if the step is finite."""
    _changed(without_gaps(a), without_gaps(b), is_finite, leaves, numbers, formulas)


def _plan(a: Tensor, b: Tensor, is_finite: Tensor, leaves: list[Tensor], *rest: object) -> Plan:
    (rows, terms), columns = a.shape, b.shape[1]
    return (), {
        "rows": rows, "terms": terms, "columns": columns, "leaves": len(leaves),
        "a_is_turned": is_turned(a), "b_is_turned": is_turned(b), "threads": threads_for(rows),
    }  # fmt: skip


def _kernel(*arguments: Argument) -> str:
    """Write the kernel's function, which takes the leaves and the numbers one by one."""
    *_, leaves, numbers, formulas = arguments
    pointers = [POINTERS[number.dtype] for number in numbers]
    taken = ["const float* a", "const float* b", "const bool* is_finite"]
    taken += [f"float* leaf{i}" for i in range(len(leaves))]
    taken += [f"const {pointer} of{i}" for i, pointer in enumerate(pointers)]
    lines = [
        f'extern "C" void kernel({", ".join(taken)}) {{',
        "if (!*is_finite) return;",
        *(f"const Vec number{i}{{float(*of{i})}};" for i in range(len(numbers))),
        f"float* const leaves[] = {{{', '.join(f'leaf{i}' for i in range(len(leaves)))}}};",
        "change_all(a, b, leaves, [&](const Vec& product, Vec (&leaf)[LEAVES]) {",
        formulas,
        "});\n}",
    ]
    return "\n".join(lines)


_changed: Final[Callable[..., None]] = cpp_kernel(
    "product_update(Tensor a, Tensor b, Tensor is_finite, Tensor(a!)[] leaves, Tensor[] numbers, "
    "str formulas) -> ()",
    _plan,
    _kernel,
)


def updates(graph: Graph, leaves: Sequence[Node], successors: Sequence[Argument]) -> list[Update]:
    """Find the updates that follow from a product."""
    products = graph.find_nodes(op="call_function", target=aten.mm.default)
    candidates = [_update(product, leaves, successors) for product in products]
    return [update for update in candidates if update is not None]


def write(graph: Graph, update: Update, is_finite: Node) -> None:
    """Insert an update into a graph, where the next node is inserted."""
    leaves = [
        graph.call_function(aten.transpose.int, (leaf, 0, 1)) if update.are_turned else leaf
        for leaf in update.leaves
    ]
    arguments = *update.product.args, is_finite, leaves, update.numbers, update.formulas
    graph.call_function(change, arguments)


def _update(product: Node, leaves: Sequence[Node], successors: Sequence[Argument]) -> Update | None:
    readers = [*readers_of(product)]
    shown = {argument: is_turned for _, argument, is_turned in readers}
    results = _find_results(reader for reader, _, _ in readers)
    if results is None:
        return None
    pairs = zip(leaves, successors, strict=True)
    changed = {leaf: new for leaf, new in pairs if new in shown or new in results}
    # All of one kind: the form of the product, and the memory layout of the leaves.
    kinds = {kind_of(node) for node in (*shown, *changed)}
    if not changed or len(kinds) > 1:
        return None
    a, b = tensors_of(product)
    needed = _find_needed(product.graph, results, {*shown, *changed})
    if needed is None or not supports(a, b) or any(base_of(x) in leaves for x in product.args):
        return None
    operations, numbers = needed
    names = dict.fromkeys(shown, "product")
    names |= {leaf: f"leaf[{i}]" for i, leaf in enumerate(changed)}
    names |= {number: f"number{i}" for i, number in enumerate(numbers)}
    lines, names = _in_cpp(operations, names)
    lines += [f"leaf[{i}] = {names[new]};" for i, new in enumerate(changed.values())]
    return Update(product, any(shown.values()), [*changed], numbers, "\n".join(lines))


def _find_results(readers: Iterable[Node]) -> set[Node] | None:
    results: set[Node] = set()
    ahead = [*readers]
    while ahead:
        node = ahead.pop()
        if node in results or node.op == "output":
            continue
        if not _is_known(node):
            return None
        results.add(node)
        ahead += node.users
    return results


def _find_needed(
    graph: Graph, results: set[Node], read: set[Node]
) -> tuple[list[Node], list[Node]] | None:
    """List the operations and the numbers that nodes need; None if they read anything else."""
    needed, numbers = set(results), []
    for node in reversed(graph.nodes):
        if node not in needed:
            continue
        for operand in node.all_input_nodes:
            value = operand.meta["val"]
            if operand in read or operand in needed or operand in numbers:
                continue
            if value.ndim == 0 and value.dtype in _NUMBERS:
                numbers.append(operand)
            elif _is_known(operand):
                needed.add(operand)
            else:
                return None
    return [node for node in graph.nodes if node in needed], numbers


def _is_known(node: Node) -> bool:
    arguments = [*node.args, *node.kwargs.values()]
    numbers = [x for x in arguments if not isinstance(x, Node)]
    is_finite = all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers)
    return is_finite and set(node.kwargs) <= {"value"} and _formula(node) is not None


def _in_cpp(
    operations: Sequence[Node], names: Mapping[Node, str]
) -> tuple[list[str], dict[Node, str]]:
    """Write operations in C++, each as one constant."""
    every = {**names, **{node: f"x{i}" for i, node in enumerate(operations)}}
    return [f"const Vec {every[x]} = {_write(x, every)};" for x in operations], every


def _write(node: Node, names: Mapping[Node, str]) -> str:
    formula = _formula(node)
    assert formula is not None  # the caller has asked `_is_known`
    value = _operand(node.kwargs.get("value", 1), names)
    return formula.format(*(_operand(x, names) for x in node.args), value=value)


def _formula(node: Node) -> str | None:
    if node.target is not aten.lerp.Scalar:
        return _FORMULAS.get(node.target)
    weight: Argument = node.args[2]
    return _LERP[abs(weight) >= 0.5]


def _operand(x: Argument, names: Mapping[Node, str]) -> str:
    return names[x] if isinstance(x, Node) else f"Vec({float(x)!r}f)"
