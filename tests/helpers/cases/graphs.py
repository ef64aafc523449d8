"""Layers on graphs; the reference writes the matrix of all pairs of nodes."""

import torch
from torch.nn import functional as F

import lincoln_fn as lf
from helpers.cases.case import Case, normal, uniform

# Node 1 has two edges from node 0, and no edge arrives at node 4.
EDGES = torch.tensor([[0, 1, 0, 3, 2, 4], [1, 0, 1, 1, 3, 2]])
WEIGHTS = uniform(6, low=0.3, high=2.0)


def adjacency(x, loops):
    """Give the matrix with the weight of the edges from node j to node i."""
    h, edges = x[:2]
    weights = x[2] if len(x) > 2 else h.new_ones(edges.shape[1])
    a = h.new_zeros(h.shape[-2], h.shape[-2])
    for e, (j, i) in enumerate(edges.T.tolist()):
        a = a + weights[e] * F.one_hot(torch.tensor(i * len(a) + j), a.numel()).view(a.shape)
    return a + loops * torch.eye(len(a), dtype=h.dtype)


def averaged(loops=1, normalize=True):
    def run(params, x):
        a = adjacency(x, loops)
        r = torch.where(a.sum(1) > 0, a.sum(1), torch.inf).rsqrt()
        return (r.unsqueeze(1) * a * r if normalize else a) @ x[0]

    return run


def attended(params, x):
    """Attend over pairs of nodes; an edge that stands twice counts twice."""
    count = adjacency(x, 1)
    heads = x[0].unflatten(-1, params.source.shape)
    p, q = (heads * params.source).sum(-1), (heads * params.target).sum(-1)
    scores = F.leaky_relu(q.unsqueeze(-2) + p.unsqueeze(-3), 0.2)
    weights = (scores + count.log().unsqueeze(-1)).softmax(-2)
    return torch.einsum("...ijh,...jhf->...ihf", weights, heads).flatten(-2)


CASES = [
    Case(lf.graph_conv(), (normal(5, 3), EDGES), averaged()),
    Case(lf.graph_conv(add_self_loops=False), (normal(2, 5, 3), EDGES, WEIGHTS), averaged(0)),
    Case(lf.graph_conv(normalize=False), (normal(5, 3), EDGES), averaged(1, False)),
    Case(lf.graph_attention(2), (normal(3, 5, 4), EDGES), attended),
    Case(lf.graph_attention(1, add_self_loops=False), (normal(5, 3), EDGES)),
]
