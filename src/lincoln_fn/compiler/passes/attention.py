"""Attention in a compiled step, by the C++ kernels of kernels/attention.

The pass looks for a softmax of q k^T, of all keys or of those up to each query, and the products
with its weights: weights v, and backward weights^T g, dscores k and dscores^T q. Attention with
another mask, or with dropout, stays as it is written. Without the kernels the step of gpt-nano took
1.13 of the time, on a Zen 5.
"""

from __future__ import annotations

import math
from operator import getitem
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.attention.op import backward, forward
from lincoln_fn.compiler.passes.fx_match import has_same_matrices, readers_of, source_of

aten = torch.ops.aten

# v^T, g, and the products dq, dk and dv.
Gradients: TypeAlias = tuple[Node, Node, Node, Node, Node]

_DERIVED: Final = aten._softmax_backward_data.default


class Attention(NamedTuple):
    """Attention's softmax, and what it is of; keys are k^T."""

    weights: Node
    q: Node
    keys: Node
    is_causal: bool


def rewrite(graph: GraphModule) -> None:
    """Replace attention where the kernels support it."""
    for weights in graph.graph.find_nodes(op="call_function", target=aten._softmax.default):
        found = _attention(weights)
        ys, dvs, others = _products_of(weights)
        if found is None or not _supports(found, ys + dvs):
            continue
        gradients = _gradients(found, dvs, others)
        if gradients is None:
            continue
        for y in ys:
            y.target, y.args = forward, (found.q, found.keys, y.args[1], found.is_causal)
        if gradients:
            _put(graph, found, gradients)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _put(graph: GraphModule, found: Attention, gradients: Gradients) -> None:
    values, g, *products = gradients
    first = next(node for node in graph.graph.nodes if node in products)
    with graph.graph.inserting_before(first):
        given = (found.q, found.keys, values, g, found.is_causal)
        made = graph.graph.call_function(backward, given)
        parts = [graph.graph.call_function(getitem, (made, i)) for i in range(len(products))]
    for product, part in zip(products, parts, strict=True):
        part.meta = dict(product.meta)
        product.replace_all_uses_with(part)


def _attention(weights: Node) -> Attention | None:
    """Find what a softmax is of, if that is q k^T along the keys, of all or causal."""
    scores: Any = weights.args[0]  # Any: torch's type for an argument is a union
    is_causal = scores.target is aten.masked_fill.Scalar and _is_future(*scores.args)
    product, is_turned = source_of(scores.args[0] if is_causal else scores)
    is_along_keys = weights.args[1] in (-1, weights.meta["val"].ndim - 1)
    if not is_along_keys or is_turned or product.target is not aten.bmm.default:
        return None
    q, keys = product.args
    return Attention(weights, q, keys, is_causal)


def _is_future(scores: Any, mask: Any, value: Any) -> bool:  # Any: as above
    """Tell whether a mask puts minus infinity above the diagonal of all scores."""
    if value != -math.inf or mask.target is not aten.bitwise_not.default:
        return False
    past = mask.args[0]
    is_past = past.target is aten.tril.default and len(past.args) == 1
    is_whole = mask.meta["val"].shape == scores.meta["val"].shape[-2:]
    return is_past and is_whole and past.args[0].target is aten.ones.default


def _supports(found: Attention, products: list[Node]) -> bool:
    """Tell whether numbers are known, features fill vectors, and each thread has a head."""
    q = found.q.meta["val"]
    if q.dtype is not torch.float32 or q.device.type != "cpu" or q.numel() == 0 or not lanes():
        return False
    widths = [q.shape[2], *(product.meta["val"].shape[2] for product in products)]
    is_whole = all(n > 0 and n % lanes() == 0 for n in widths)
    return is_whole and len(q) >= torch.get_num_threads()


def _gradients(
    found: Attention, dvs: list[Node], others: list[Node]
) -> Gradients | tuple[()] | None:
    """Find v^T, g, dq, dk and dv: none where nothing goes back; None if something else does."""
    if not dvs and not others:
        return ()
    if [len(dvs), *(node.target for node in others)] != [1, _DERIVED]:
        return None
    (dv,), (dscores,) = dvs, others
    dweights, is_turned = source_of(dscores.args[0])
    dqs, dks, rest = _products_of(dscores)
    if is_turned or [len(dqs), len(dks), len(rest)] != [1, 1, 0]:
        return None
    if dweights.target is not aten.bmm.default or dscores.args[1] is not found.weights:
        return None
    (dq,), (dk,), (g, values) = dqs, dks, dweights.args
    are_own = (
        has_same_matrices(dv.args[1], g)
        and has_same_matrices(dk.args[1], found.q)
        and has_same_matrices(dq.args[1], found.keys, turned=True)
    )
    given, made = (found.q, found.keys, values, g), (dq, dk, dv)
    place = {node: i for i, node in enumerate(found.weights.graph.nodes)}
    is_in_order = max(place[node] for node in given) < min(place[node] for node in made)
    return (values, g, *made) if are_own and is_in_order else None


def _products_of(node: Node) -> tuple[list[Node], list[Node], list[Node]]:
    """Find the products whose first factor a node is, plain or turned, and what else reads it."""
    plain: list[Node] = []
    turned: list[Node] = []
    others: list[Node] = []
    for reader, view, is_turned in readers_of(node):
        is_product = reader.target is aten.bmm.default and reader.args[0] is view
        (others if not is_product else turned if is_turned else plain).append(reader)
    return plain, turned, others
