"""Updates in a compiled step that are made of one product, element by element.

Such are an optimizer's of dW = x^T g: momentum and W, or the two means that Adam keeps and W. Where
a step may write over them, product_update.cpp changes them by each tile of dW as soon as its sums
are whole. dW itself is never written to memory nor read from there, and what it is to change is
fetched while it is summed up. It pays where the sums have few terms, or where the leaves are too
large for the processor's caches: the step of a 784-500-10 network with 128 examples takes a tenth
less time so with momentum, and a twentieth with Adam, and that of a 1024-4096-4096-10 network with
256 examples likewise. Measured on a Xeon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.fx import Graph, Node, has_side_effect

from lincoln_fn.compiled.elementwise import in_cpp, is_known
from lincoln_fn.compiled.factors import as_they_lie
from lincoln_fn.compiled.loops import POINTERS, are_called_for, loop, threads_for
from lincoln_fn.compiled.nodes import kind_of, readers_of, shows
from lincoln_fn.fastpath.product import goes_to_mkl

aten = torch.ops.aten

# Multiply-adds, and rows and columns, from which on the loop may take less time than a call and
# what follows it.
_LEAST: Final = 2**20
_SIDE: Final = 64
# It does if a sum has at most so many terms, or if each leaf has so many numbers.
_FEW: Final = 2**8
_LARGE: Final = 2**22
# Terms of a sum up to which they are added one after another in float32.
_MOST: Final = 2**10
# Dtypes that single numbers may have.
_NUMBERS: Final = (torch.float32, torch.float64, torch.int64)


class Update(NamedTuple):
    """Leaves that `formulas`, in C++, change by a product and some numbers.

    They are of the product's shape, or of its transpose's if they are turned.
    """

    product: Node
    are_turned: bool
    leaves: list[Node]
    numbers: list[Node]
    formulas: str


# Any: what a graph may hold.
def updates(graph: Graph, leaves: Sequence[Node], successors: Sequence[Any]) -> list[Update]:
    """Find the updates that are made of a product.

    Args:
        graph: of a traced step.
        leaves: of the state.
        successors: what follows each in the next state.

    Returns:
        The updates.
    """
    products = graph.find_nodes(op="call_function", target=aten.mm.default)
    found = [_update(product, leaves, successors) for product in products]
    return [update for update in found if update is not None]


def write(graph: Graph, update: Update, is_finite: Node) -> None:
    """Write an update into a graph, where the next node is put.

    Args:
        graph: of a traced step, which is changed.
        update: the update.
        is_finite: if it is false, the leaves stay as they are.
    """
    leaves = [
        graph.call_function(aten.transpose.int, (leaf, 0, 1)) if update.are_turned else leaf
        for leaf in update.leaves
    ]
    given = *update.product.args, is_finite, leaves, update.numbers, update.formulas
    graph.call_function(_change, given)


def makes(a: Tensor, b: Tensor) -> bool:
    """Tell whether the loop is to change leaves by a product.

    Args:
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        True for a large one in float32 whose sums have at most 256 terms, or at most 1024 if it has
        4 million numbers.
    """
    if not goes_to_mkl(a, b):
        return False
    (rows, terms), columns = a.shape, b.shape[1]
    is_large = min(rows, columns) >= _SIDE and rows * terms * columns >= _LEAST
    most = _MOST if rows * columns >= _LARGE else _FEW
    return is_large and terms <= most and are_called_for(a)


def _update(product: Node, leaves: Sequence[Node], successors: Sequence[Any]) -> Update | None:
    readers = [*readers_of(product)]
    shown = {argument: is_turned for _, argument, is_turned in readers}
    made = _made_of(reader for reader, _, _ in readers)
    if made is None:
        return None
    pairs = zip(leaves, successors, strict=True)
    changed = {leaf: new for leaf, new in pairs if new in shown or new in made}
    # One kind, so that all show the product in one way, and lie as the leaves do.
    kinds = {kind_of(node) for node in (*shown, *changed)}
    if not changed or len(kinds) > 1:
        return None
    factors: Any = product.args  # Any: torch's type for an argument is a union
    a, b = (factor.meta["val"] for factor in factors)
    needed = _needed(product.graph, made, {*shown, *changed})
    if needed is None or not makes(a, b) or any(shows(x, leaves) for x in factors):
        return None
    operations, numbers = needed
    names = dict.fromkeys(shown, "product")
    names |= {leaf: f"leaf[{i}]" for i, leaf in enumerate(changed)}
    names |= {number: f"number{i}" for i, number in enumerate(numbers)}
    lines, names = in_cpp(operations, names)
    lines += [f"leaf[{i}] = {names[new]};" for i, new in enumerate(changed.values())]
    return Update(product, any(shown.values()), [*changed], numbers, "\n".join(lines))


def _made_of(readers: Iterable[Node]) -> set[Node] | None:
    """Find readers and all that is made of them; None if some is not made element by element."""
    made: set[Node] = set()
    ahead = [*readers]
    while ahead:
        node = ahead.pop()
        if node in made or node.op == "output":
            continue
        if not is_known(node):
            return None
        made.add(node)
        ahead += node.users
    return made


def _needed(graph: Graph, made: set[Node], read: set[Node]) -> tuple[list[Node], list[Node]] | None:
    """List the operations, and the numbers, that nodes are made by, if nothing else is read."""
    needed, numbers = set(made), []
    for node in reversed(graph.nodes):
        if node not in needed:
            continue
        for given in node.all_input_nodes:
            value = given.meta["val"]
            if given in read or given in needed or given in numbers:
                continue
            if value.ndim == 0 and value.dtype in _NUMBERS:
                numbers.append(given)
            elif is_known(given):
                needed.add(given)
            else:
                return None
    return [node for node in graph.nodes if node in needed], numbers


@has_side_effect
def _change(
    a: Tensor,
    b: Tensor,
    is_finite: Tensor,
    leaves: list[Tensor],
    numbers: list[Tensor],
    formulas: str,
) -> None:
    _changed(*as_they_lie(a, b), is_finite, leaves, numbers, formulas)


def _sizes(
    a: Tensor,
    b: Tensor,
    a_is_turned: bool,
    b_is_turned: bool,
    is_finite: Tensor,
    leaves: list[Tensor],
    *rest: object,
) -> dict[str, int]:
    rows, columns = leaves[0].shape
    return {
        "rows": rows,
        "terms": b.shape[b_is_turned],
        "columns": columns,
        "a_is_turned": a_is_turned,
        "b_is_turned": b_is_turned,
        "leaves": len(leaves),
        "threads": threads_for(rows),
    }


def _kernel(*given: Any) -> str:  # Any: tensors and others
    """Write the loop's function, which takes the leaves and the numbers one by one."""
    *_, leaves, numbers, formulas = given
    pointers = [POINTERS[number.dtype] for number in numbers]
    taken = ["const float* a", "const float* b", "const bool* is_finite"]
    taken += [f"float* leaf{i}" for i in range(len(leaves))]
    taken += [f"const {pointer} of{i}" for i, pointer in enumerate(pointers)]
    lines = [
        f'extern "C" void kernel({", ".join(taken)}) {{',
        "if (!*is_finite) return;",
        *(f"const Vec number{i}{{float(*of{i})}};" for i in range(len(numbers))),
        f"float* const leaves[] = {{{', '.join(f'leaf{i}' for i in range(len(leaves)))}}};",
        "change(a, b, leaves, [&](const Vec& product, Vec (&leaf)[LEAVES]) {",
        formulas,
        "});\n}",
    ]
    return "\n".join(lines)


_changed: Final[Callable[..., None]] = loop(
    "product_update(Tensor a, Tensor b, bool a_is_turned, bool b_is_turned, Tensor is_finite, "
    "Tensor(a!)[] leaves, Tensor[] numbers, str formulas) -> ()",
    lambda *given: (),
    _sizes,
    ("parts.h", "tiles.h"),
    _kernel,
)
