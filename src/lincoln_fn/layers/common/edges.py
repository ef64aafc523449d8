"""Checks of a graph, and its edges read and added up, shared by the layers on graphs."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import LayerError, check_input, check_like, describe_non_tuple
from lincoln_fn.layers.common.indices import check_integers, in_range

Nodes: TypeAlias = Float[Tensor, "*batch nodes features"]
Edges: TypeAlias = Int[Tensor, "2 edges"]
Ends: TypeAlias = Int[Tensor, " edges"]
Weights: TypeAlias = Float[Tensor, " edges"]


def graph_parts(
    layer: str, x: object, *, has_weights: bool = False
) -> tuple[Nodes, Ends, Ends, Weights | None]:
    """Check that x is (nodes, edges), or with the edges' weights, and divide the edges.

    Args:
        x: the input.
        has_weights: whether x may have weights as a third entry.

    Returns:
        The nodes, the first node of each edge, its second node, and the weights, or None.

    Raises:
        LayerError: if x is no such tuple, or an edge has no node.

    Example:
        >>> graph_parts("graph_conv", (torch.zeros(3, 2), torch.tensor([[0, 1], [1, 2]])))[1:]
        (tensor([0, 1]), tensor([1, 2]), None)
    """
    form = "(nodes, edges) or (nodes, edges, weights)" if has_weights else "(nodes, edges)"
    if type(x) is not tuple or len(x) not in ((2, 3) if has_weights else (2,)):
        raise LayerError(layer, f"expected x to be {form}, got {describe_non_tuple(x)}")
    parts: Any = x  # Any: each is checked below
    h, edges, *rest = parts
    check_input(layer, (), h)
    if h.ndim < 2:
        wanted = "(..., nodes, features)"
        raise LayerError(layer, f"expected nodes of shape {wanted}, got {tuple(h.shape)}")
    check_integers(layer, "edges", edges, h.device)
    if edges.ndim != 2 or len(edges) != 2:
        problem = f"expected edges of shape (2, number of edges), got {tuple(edges.shape)}"
        raise LayerError(layer, problem)
    source, target = edges.long()
    count = h.shape[-2]
    of_nodes = torch.empty(count, device=h.device)
    in_range(layer, edges, count, lambda: of_nodes.index_select(0, edges.long().flatten()))
    weights = rest[0] if rest else None
    if weights is not None:
        check_input(layer, (), weights)
        check_like(layer, "weights", weights, h)
        if weights.shape != source.shape:
            problem = f"expected weights of shape {tuple(source.shape)}, one for each edge"
            raise LayerError(layer, f"{problem}, got {tuple(weights.shape)}")
    return h, source, target, weights
