"""Attention in a compiled step: the loops of attention_loops.py, found a place in its graph.

What is looked for is a softmax of q k^T, of all keys or of those up to each query, and the products
with its weights: weights v, and backward weights^T g, dscores k and dscores^T q. Attention with
another mask, or with dropout, is made as it is written.
"""

from __future__ import annotations

import math
from operator import getitem
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch.fx import GraphModule, Node

from lincoln_fn.compiled.attention_loops import backward, forward
from lincoln_fn.compiled.loops import lanes
from lincoln_fn.compiled.nodes import has_same_matrices, readers_of, source_of

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
    """Put the loops in the place of attention, where they suit.

    Args:
        graph: a traced step, which is changed.
    """
    for weights in graph.graph.find_nodes(op="call_function", target=aten._softmax.default):
        found = _attention(weights)
        readers = list(readers_of(weights))
        ys = [node for node, view, turned in readers if not turned and _is_product(node, view)]
        dvs = [node for node, view, turned in readers if turned and _is_product(node, view)]
        dscores = [node for node, *_ in readers if node.target is _DERIVED]
        if found is None or not _suits(found, ys + dvs):
            continue
        gradients = _gradients(found, dvs, dscores)
        if len(ys) + len(dvs) + len(dscores) != len(readers) or gradients is None:
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


def _suits(found: Attention, products: list[Node]) -> bool:
    """Tell whether numbers are known, features fill vectors, and each thread has a head."""
    q = found.q.meta["val"]
    if q.dtype is not torch.float32 or q.device.type != "cpu" or q.numel() == 0 or not lanes():
        return False
    widths = [q.shape[2], *(product.meta["val"].shape[2] for product in products)]
    return all(n > 0 == n % lanes() for n in widths) and len(q) >= torch.get_num_threads()


def _gradients(
    found: Attention, dvs: list[Node], dscores: list[Node]
) -> Gradients | tuple[()] | None:
    """Find v^T, g, dq, dk and dv: none where nothing goes back; None if something else does."""
    if not dvs and not dscores:
        return ()
    if not len(dvs) == len(dscores) == 1:
        return None
    (dv,), (derived,) = dvs, dscores
    dweights, is_turned = source_of(derived.args[0])
    readers = list(readers_of(derived))
    dqs = [node for node, view, turned in readers if not turned and _is_product(node, view)]
    dks = [node for node, view, turned in readers if turned and _is_product(node, view)]
    if not len(dqs) == len(dks) == 1 or len(readers) != 2 or is_turned:
        return None
    (dq,), (dk,) = dqs, dks
    if dweights.target is not aten.bmm.default or derived.args[1] is not found.weights:
        return None
    g, values = dweights.args
    are_own = (
        has_same_matrices(dv.args[1], g)
        and has_same_matrices(dk.args[1], found.q)
        and has_same_matrices(dq.args[1], found.keys, turned=True)
    )
    given, made = (found.q, found.keys, values, g), (dq, dk, dv)
    place = {node: i for i, node in enumerate(found.weights.graph.nodes)}
    is_in_order = max(place[node] for node in given) < min(place[node] for node in made)
    return (values, g, *made) if are_own and is_in_order else None


def _is_product(node: Node, factor: Node) -> bool:
    """Tell whether a node is a product whose first factor is the one given."""
    return node.target is aten.bmm.default and node.args[0] is factor
