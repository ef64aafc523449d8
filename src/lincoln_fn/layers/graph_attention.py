"""Graph attention: each node's y is a mean of its neighbours, weighted by trained scores.

(Velickovic and others, "Graph Attention Networks", 2018, equations 3 to 5, whose matrix W is a
dense layer before this one.)

Edge e goes from node s_e to node t_e, and each node has a loop. The features of h are cut into
heads. Within one head, with l(u) = u for u > 0 and c u otherwise,

    p_j = sum_f a_f h_(jf)
    q_i = sum_f b_f h_(if)
    u_e = l(p_(s_e) + q_(t_e))
    w_e = e^(u_e) / (sum_(k: t_k = t_e) e^(u_k))
    y_i = sum_(e: t_e = i) w_e h_(s_e)

Derivation. The last line is a product of the weights and the nodes; the line before it is a softmax
over the edges into one node:

    dw_e = sum_f g_(t_e f) h_(s_e f)
    du_e = w_e (dw_e - sum_(k: t_k = t_e) w_k dw_k)
    dv_e = du_e l'(p_(s_e) + q_(t_e))
    dp_j = sum_(e: s_e = j) dv_e
    dq_i = sum_(e: t_e = i) dv_e
    dh_j = sum_(e: s_e = j) w_e g_(t_e) + a dp_j + b dq_j
    da = sum_j dp_j h_j
    db = sum_j dq_j h_j

The largest u of each node's edges is subtracted before exp. Edges have no gradient.

Cache: h by head, w, l', and the edges with the loops.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, PositiveInt, bare, mirror, record
from lincoln_fn.initializers import Fans, Initializer, glorot_uniform
from lincoln_fn.layers.common.inputs import add_at
from lincoln_fn.layers.graph_conv import Edges, Ends, Nodes, graph_parts

NAME = "graph_attention"
Heads: TypeAlias = Float[Tensor, "*batch nodes heads features"]
Scores: TypeAlias = Float[Tensor, "*batch edges heads"]


@record
class Params:
    """The vectors a and b of each head."""

    source: Float[Tensor, "heads features"]
    target: Float[Tensor, "heads features"]


@record
class Cache:
    h: Heads
    weights: Scores
    slope: Scores
    source: Ends
    target: Ends


def init(key: Key, x: tuple[Nodes, Edges], *, num_heads: int, weight_init: Initializer) -> Params:
    """Draw a and b."""
    h = _by_head(graph_parts(NAME, x)[0], num_heads)
    shape = tuple(h.shape[-2:])
    fans = Fans(shape[1], 1)
    a, b = (weight_init.draw(key.fold_in(i), shape, fans, h.dtype) for i in (0, 1))
    return Params(a, b)


def forward(
    params: Params, x: tuple[Nodes, Edges], *, negative_slope: float, add_self_loops: bool
) -> tuple[Nodes, Cache]:
    """Compute y_i = sum of w_e h_(s_e) over the edges into i, with w the softmax of u over them."""
    nodes, source, target, _ = graph_parts(NAME, x)
    core.check_like(NAME, "nodes", nodes, params.source)
    h = _by_head(nodes, *params.source.shape)
    count = nodes.shape[-2]
    if add_self_loops:
        loops = torch.arange(count, device=nodes.device)
        source, target = torch.cat((source, loops)), torch.cat((target, loops))
    p, q = (h * params.source).sum(-1), (h * params.target).sum(-1)
    v = p[..., source, :] + q[..., target, :]
    slope = torch.where(v > 0, torch.ones_like(v), negative_slope)
    w = _softmax(slope * v, target, count)
    y = add_at(target, w.unsqueeze(-1) * h[..., source, :, :], count, -3)
    return y.flatten(-2), Cache(h, w, slope, source, target)


def backward(params: Params, cache: Cache, g: Nodes) -> tuple[tuple[Nodes, None], Params]:
    """Compute dh_j = sum of w_e g_(t_e) over the edges from j + a dp_j + b dq_j, da and db."""
    dp, dq = _of_scores(cache, g)
    by_head = g.reshape(*g.shape[:-1], *cache.h.shape[-2:])
    sent = cache.weights.unsqueeze(-1) * by_head[..., cache.target, :, :]
    dh = add_at(cache.source, sent, cache.h.shape[-3], -3)
    dh = dh + dp.unsqueeze(-1) * params.source + dq.unsqueeze(-1) * params.target
    da, db = ((d.unsqueeze(-1) * cache.h).flatten(0, -3).sum(0) for d in (dp, dq))
    return (dh.flatten(-2), None), Params(da, db)


def terms(params: Params, cache: Cache, g: Nodes) -> Params:
    """Return da_n = sum of dp_j h_j over the nodes of example n, and db_n."""
    core.check_batched(NAME, g, 3)
    inner = tuple(range(1, g.ndim - 1))
    da, db = (core.sum_axes(d.unsqueeze(-1) * cache.h, inner) for d in _of_scores(cache, g))
    return mirror(params, source=da, target=db)


def _of_scores(cache: Cache, g: Nodes) -> tuple[Tensor, Tensor]:
    core.check_cotangent(NAME, g, cache.h, tuple(cache.h.flatten(-2).shape))
    w, source, target, count = cache.weights, cache.source, cache.target, cache.h.shape[-3]
    by_head = g.reshape(*g.shape[:-1], *cache.h.shape[-2:])
    dw = (by_head[..., target, :, :] * cache.h[..., source, :, :]).sum(-1)
    du = w * (dw - add_at(target, w * dw, count, -2)[..., target, :])
    dv = du * cache.slope
    return add_at(source, dv, count, -2), add_at(target, dv, count, -2)


def _softmax(u: Scores, target: Ends, count: int) -> Scores:
    at = target.unsqueeze(-1).expand(u.shape)
    lowest = u.new_full((*u.shape[:-2], count, u.shape[-1]), -torch.inf)
    # The softmax is the same whatever is subtracted: its derivative needs none of the largest.
    largest = lowest.scatter_reduce(-2, at, u.detach(), "amax")
    raised = (u - largest[..., target, :]).exp()
    return raised / add_at(target, raised, count, -2)[..., target, :]


def _by_head(h: Nodes, num_heads: int, features: int | None = None) -> Heads:
    n = h.shape[-1]
    if n % num_heads or (features is not None and n != num_heads * features):
        wanted = f"a multiple of {num_heads}" if features is None else f"{num_heads * features}"
        raise core.unexpected(NAME, f"nodes of {wanted} features", f"shape {tuple(h.shape)}")
    return h.reshape(*h.shape[:-1], num_heads, n // num_heads)


@core.constructor(kind="other", terms=terms, along="rows")
def graph_attention(
    num_heads: PositiveInt, *, negative_slope: float = 0.2, add_self_loops: bool = True,
    weight_init: Initializer = glorot_uniform(),
) -> Layer:  # fmt: skip
    """Average each node's neighbours, weighted by a softmax of scores with trained vectors.

    x is (nodes, edges). The nodes have shape (..., nodes, features), and so has y; the heads' stand
    side by side. The edges, integers of shape (2, number of edges), go from the nodes in row 0 to
    those in row 1; an undirected edge stands twice. A node that no edge reaches has y = 0.

    dx is (dnodes, None). A layer of the source's network is a dense layer and this one; average the
    last one's heads by `unflatten` and `mean`.

    Args:
        num_heads: the number of heads, which divides the features.
        negative_slope: of the leaky ReLU of the scores.
        add_self_loops: whether each node also has an edge to itself.
        weight_init: draws both vectors of each head. The default is Glorot's.

    Example:
        >>> x = torch.tensor([[2.0], [4.0], [8.0]]), torch.tensor([[0, 2], [1, 1]])
        >>> params = Params(torch.tensor([[0.0]]), torch.tensor([[1.0]]))
        >>> graph_attention(1).predict(params, x).flatten()
        tensor([2.0000, 4.6667, 8.0000])
    """
    return bare(Layer, forward, backward, init)
