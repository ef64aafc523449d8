"""Updates in a donated step that follow element by element from one product, by a C++ kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch.fx import Graph, Node

from lincoln_fn.compiler.kernels.product_update.elementwise import in_cpp, is_known
from lincoln_fn.compiler.kernels.product_update.op import change, supports
from lincoln_fn.compiler.passes.fx_match import base_of, kind_of, readers_of

aten = torch.ops.aten

# Dtypes that single numbers may have.
_NUMBERS: Final = (torch.float32, torch.float64, torch.int64)


class Update(NamedTuple):
    """Leaves that are updated by `formulas` in C++, of a product and some numbers."""

    # They have the product's shape, or that of its transpose if `are_turned`.

    product: Node
    are_turned: bool
    leaves: list[Node]
    numbers: list[Node]
    formulas: str


# Any: what a graph may hold.
def updates(graph: Graph, leaves: Sequence[Node], successors: Sequence[Any]) -> list[Update]:
    """Find the updates that follow from a product."""
    products = graph.find_nodes(op="call_function", target=aten.mm.default)
    found = [_update(product, leaves, successors) for product in products]
    return [update for update in found if update is not None]


def write(graph: Graph, update: Update, is_finite: Node) -> None:
    """Insert an update into a graph, where the next node is inserted."""
    leaves = [
        graph.call_function(aten.transpose.int, (leaf, 0, 1)) if update.are_turned else leaf
        for leaf in update.leaves
    ]
    given = *update.product.args, is_finite, leaves, update.numbers, update.formulas
    graph.call_function(change, given)


def _update(product: Node, leaves: Sequence[Node], successors: Sequence[Any]) -> Update | None:
    readers = [*readers_of(product)]
    shown = {argument: is_turned for _, argument, is_turned in readers}
    made = _find_results(reader for reader, _, _ in readers)
    if made is None:
        return None
    pairs = zip(leaves, successors, strict=True)
    changed = {leaf: new for leaf, new in pairs if new in shown or new in made}
    # All of one kind: the form of the product, and the memory layout of the leaves.
    kinds = {kind_of(node) for node in (*shown, *changed)}
    if not changed or len(kinds) > 1:
        return None
    factors: Any = product.args  # Any: torch's type for an argument is a union
    a, b = (factor.meta["val"] for factor in factors)
    needed = _find_needed(product.graph, made, {*shown, *changed})
    if needed is None or not supports(a, b) or any(base_of(x) in leaves for x in factors):
        return None
    operations, numbers = needed
    names = dict.fromkeys(shown, "product")
    names |= {leaf: f"leaf[{i}]" for i, leaf in enumerate(changed)}
    names |= {number: f"number{i}" for i, number in enumerate(numbers)}
    lines, names = in_cpp(operations, names)
    lines += [f"leaf[{i}] = {names[new]};" for i, new in enumerate(changed.values())]
    return Update(product, any(shown.values()), [*changed], numbers, "\n".join(lines))


def _find_results(readers: Iterable[Node]) -> set[Node] | None:
    """Find readers and all that follows from them; None if something is not elementwise."""
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


def _find_needed(
    graph: Graph, made: set[Node], read: set[Node]
) -> tuple[list[Node], list[Node]] | None:
    """List the operations and the numbers that nodes need; None if they read anything else."""
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
