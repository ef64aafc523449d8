"""Dense layers, a tied embedding's scores, bilinear layers and embeddings: outer products.

`outer.py` derives what is computed from the factors. Summed over the rows of one example, they are

    dense        dW = x^T g
    scores       dE = g^T h
    bilinear     dA_(ki) = p_(ki)^T v    with p_(ki) = g_k u_i
    embedding    dW_v = g_t    for v = x_t
    any bias     db = g
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.layer import Params
from lincoln_fn.layers import bilinear, dense, embedding
from lincoln_fn.layers._normalisation import widened
from lincoln_fn.per_example.checks import check_rows
from lincoln_fn.per_example.outer import Outer, Rows
from lincoln_fn.per_example.terms import Explicit
from lincoln_fn.record import evolve


def dense_terms(params: dense.Params, x: Tensor, g: Tensor) -> Params:
    """Return the terms of W and b."""
    check_rows("dense", g)
    weight = Outer(by_example(x), by_example(g), tuple(params.weight.shape))
    return evolve(params, weight=weight, bias=bias_term(params.bias, g))


def scores_terms(params: Params, h: Tensor, g: Tensor) -> Params:
    """Return the term of the embedding's matrix."""
    check_rows("scores", g)
    term = Outer(by_example(g), by_example(h), tuple(params.weight.shape))
    return tree.map(lambda p: term if p is params.weight else torch.zeros_like(p), params)


def bilinear_terms(params: bilinear.Params, x: bilinear.Inputs, g: Tensor) -> Params:
    """Return the terms of A and b."""
    check_rows("bilinear", g)
    p = (g.unsqueeze(-1) * x[0].unsqueeze(-2)).flatten(-2)
    weight = Outer(by_example(p), by_example(x[1]), tuple(params.weight.shape))
    return evolve(params, weight=weight, bias=bias_term(params.bias, g))


def embedding_terms(params: embedding.Params, cache: embedding.Cache, g: Tensor) -> Params:
    """Return the term of the table; the row `padding_idx` has no gradient."""
    check_rows("embedding", g)
    index, rows = cache.x.long(), g
    if cache.padding_idx is not None:
        rows = g.masked_fill((index == cache.padding_idx).unsqueeze(-1), 0)
    index = index.flatten(1) if index.ndim > 1 else index.unsqueeze(1)
    return evolve(params, weight=Rows(index, by_example(rows), tuple(params.weight.shape)))


def by_example(x: Float[Tensor, "N *rows features"]) -> Float[Tensor, "N T features"]:
    """Put the rows of each example into a matrix."""
    return x.flatten(1, -2) if x.ndim > 2 else x.unsqueeze(1)


def bias_term(bias: Tensor | None, g: Float[Tensor, "N *rows features"]) -> Explicit | None:
    """Return the term of a bias: the sum of g over the rows of each example."""
    if bias is None:
        return None
    return Explicit(widened(by_example(g)).sum(1) if g.ndim > 2 else g)
