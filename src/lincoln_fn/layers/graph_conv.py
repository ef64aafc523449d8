"""Graph convolution: each node's y is a weighted mean over itself and its neighbours.

(Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks", 2017,
equation 2, whose matrix W is a dense layer before or behind this one.)

Edge e goes from node s_e to node t_e with the weight w_e, which is 1 if none is given. Each node
has a loop of weight 1. With d_i the sum of the weights of the edges into node i,

    d_i = 1 + sum_(e: t_e = i) w_e
    r_i = 1 / sqrt(d_i)
    z_i = r_i h_i
    m_i = z_i + sum_(e: t_e = i) w_e z_(s_e)
    y_i = r_i m_i

Without loops, d_i lacks the 1 and m_i lacks z_i, and r_i is 0 where no edge arrives. Without
normalisation, r_i is 1: y_i is a sum.

Derivation. Each line, from the last to the first, with sums over the features where there is one
number for each node or edge:

    dm_i = r_i g_i
    dz_j = dm_j + sum_(e: s_e = j) w_e dm_(t_e)    the edges, turned around
    dh_i = r_i dz_i
    dr_i = sum g_i m_i + sum dz_i h_i
    dd_i = -1/2 r_i^3 dr_i
    dw_e = sum dm_(t_e) z_(s_e) + dd_(t_e)

Edges are integers and have no gradient.

Cache: r, w and the edges; h and m, if there are weights.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Layer, bare, record, stand_in, static, unexpected
from lincoln_fn.layers.common.inputs import add_at, check_integers, in_range

NAME = "graph_conv"
Nodes: TypeAlias = Float[Tensor, "*batch nodes features"]
Edges: TypeAlias = Int[Tensor, "2 edges"]
Ends: TypeAlias = Int[Tensor, " edges"]
Weights: TypeAlias = Float[Tensor, " edges"]
Inputs: TypeAlias = tuple[Nodes, Edges] | tuple[Nodes, Edges, Weights]
Gradients: TypeAlias = tuple[Nodes, None] | tuple[Nodes, None, Weights]


@record
class Cache:
    """The nodes and m, or stand-ins for them, r, the edges and their weights, and the options."""

    h: Nodes
    m: Nodes
    r: Float[Tensor, " nodes"]
    source: Ends
    target: Ends
    weights: Weights | None
    loop: float = static()
    normalize: bool = static()


def forward(
    params: tuple[()], x: Inputs, *, add_self_loops: bool, normalize: bool
) -> tuple[Nodes, Cache]:
    """Compute y_i = r_i m_i with m_i = z_i + sum of w_e z over the edges into i, z = r h."""
    h, source, target, weights = graph_parts(NAME, x, has_weights=True)
    loop, count = float(add_self_loops), h.shape[-2]
    r = h.new_ones(count)
    if normalize:
        w = h.new_ones(len(source)) if weights is None else weights
        d = loop + add_at(target, w, count, 0)
        r = torch.where(d > 0, torch.where(d > 0, d, 1).rsqrt(), 0)
    m = _mix(r.unsqueeze(-1) * h, source, target, weights, loop)
    y = r.unsqueeze(-1) * m
    if weights is None:  # dh reads neither h nor m
        h = m = stand_in(h)
    return y, Cache(h, m, r, source, target, weights, loop, normalize)


def backward(params: tuple[()], cache: Cache, g: Nodes) -> tuple[Gradients, tuple[()]]:
    """Compute dh = r dz, where dz is dm = r g sent back along the edges, and dw."""
    source, target, weights = cache.source, cache.target, cache.weights
    r = cache.r.unsqueeze(-1)
    dm = r * g
    dz = _mix(dm, target, source, weights, cache.loop)
    if weights is None:
        return (r * dz, None), ()
    z_e, dm_e = ((r * cache.h)[..., source, :], dm[..., target, :])
    dw = _sum_but(dm_e * z_e)
    if cache.normalize:
        dr = _sum_but(g * cache.m + dz * cache.h)
        dw = dw + (-0.5 * cache.r**3 * dr)[target]
    return (r * dz, None, dw), ()


def _mix(z: Nodes, source: Ends, target: Ends, weights: Weights | None, loop: float) -> Nodes:
    """Compute loop z_i + sum of w_e z_(s_e) over the edges into i."""
    brought = z[..., source, :]
    brought = brought if weights is None else weights.unsqueeze(-1) * brought
    return loop * z + add_at(target, brought, z.shape[-2], -2)


def _sum_but(values: Float[Tensor, "*batch n features"]) -> Float[Tensor, " n"]:
    return values.sum(-1).flatten(0, -2).sum(0) if values.ndim > 2 else values.sum(-1)


@core.constructor(kind="average", along="rows")
def graph_conv(*, add_self_loops: bool = True, normalize: bool = True) -> Layer:
    """Average each node of a graph with its neighbours, weighted by their numbers of edges.

    x is (nodes, edges) or (nodes, edges, weights). The nodes have shape (..., nodes, features), and
    so has y. The edges, integers of shape (2, number of edges), go from the nodes in row 0 to those
    in row 1; an undirected edge stands twice. One floating weight belongs to each edge. Several
    graphs of the same edges have axes of a batch in front; of others, number the nodes on, as one
    graph of several parts.

    dx is (dnodes, None), and dweights if x has weights. A layer of the source's network is this one
    and a dense layer. `with_context` gives the edges to each of several.

    Args:
        add_self_loops: whether each node also has an edge to itself, of weight 1.
        normalize: whether an edge counts 1 / sqrt(d_s d_t), with the sums d of the weights of the
            edges into both nodes. If not, neighbours are added up.

    Example:
        >>> nodes, edges = torch.tensor([[2.0], [4.0], [8.0]]), torch.tensor([[0, 1], [1, 0]])
        >>> graph_conv().predict((), (nodes, edges)).flatten()
        tensor([3.0000, 3.0000, 8.0000])
    """
    return bare(Layer, forward, backward)


def graph_parts(
    layer: str, x: object, *, has_weights: bool = False
) -> tuple[Nodes, Ends, Ends, Weights | None]:
    """Check that x is (nodes, edges), or with the edges' weights, and divide the edges.

    Returns:
        The nodes, the first node of each edge, its second node, and the weights, or None.
    """
    form = "(nodes, edges) or (nodes, edges, weights)" if has_weights else "(nodes, edges)"
    if type(x) is not tuple or len(x) not in ((2, 3) if has_weights else (2,)):
        raise unexpected(layer, f"x to be {form}", core.describe_non_tuple(x))
    parts: Any = x  # Any: each is checked below
    h, edges, *rest = parts
    core.check_input(layer, (), h)
    if h.ndim < 2:
        raise core.wrong_shape(layer, "nodes", h, "(..., nodes, features)")
    check_integers(layer, "edges", edges, h.device)
    if edges.ndim != 2 or len(edges) != 2:
        raise core.wrong_shape(layer, "edges", edges, "(2, number of edges)")
    source, target = edges.long()
    count = h.shape[-2]
    of_nodes = torch.empty(count, device=h.device)
    in_range(layer, edges, count, lambda: of_nodes.index_select(0, edges.long().flatten()))
    weights = rest[0] if rest else None
    if weights is not None:
        core.check_input(layer, (), weights)
        core.check_like(layer, "weights", weights, h)
        if weights.shape != source.shape:
            shape = f"{tuple(source.shape)}, one for each edge"
            raise core.wrong_shape(layer, "weights", weights, shape)
    return h, source, target, weights
