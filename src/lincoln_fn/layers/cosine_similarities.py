"""Cosine similarities: y_ij = e^s cos(a_i, b_j), each row of a with each row of b.

(Radford and others, "Learning Transferable Visual Models From Natural Language Supervision", 2021,
figure 3.)

Derivation. With the rows of length 1

    hat a_i = a_i / |a_i|    hat b_j = b_j / |b_j|
    y_(ij) = e^s sum_f hat a_(i f) hat b_(j f)

the matrix product and the scale give

    d hat a = e^s g hat b
    d hat b = e^s g^T hat a
    ds = sum_(ij) g_(ij) y_(ij)

Each a_k affects the direction hat a_f directly, where f = k, and through the length:

    (d hat a_f) / (da_k) = (delta_(fk) - hat a_f hat a_k) / |a|
    da = (d hat a - hat a sum_f d hat a_f hat a_f) / |a|    likewise for b

A row of zeros has no direction: it counts as 0. A length below 1e-12 counts as 1e-12; in float16,
the least length is 6.1e-5, its smallest normal number. Half precision has its lengths, and divides
by them, in float32: float16 ends at 65504.

Cache: hat a, hat b, the lengths and y.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, Positive, bare, check_like, record
from lincoln_fn.layers.common.inputs import check_form, check_inputs
from lincoln_fn.layers.common.normalisation import norm_over, widened

NAME = "cosine_similarities"
Rows: TypeAlias = Float[Tensor, "*batch n features"]
Pair: TypeAlias = tuple[Rows, Rows]


@record
class Params:
    """The logarithm s of the scale."""

    log_scale: Float[Tensor, ""]


@record
class Cache:
    a: Rows
    b: Rows
    length_a: Float[Tensor, "*batch n 1"]
    length_b: Float[Tensor, "*batch m 1"]
    y: Float[Tensor, "*batch n m"]


def init(key: Key, x: Pair, *, init_scale: float) -> Params:
    """Make s, the logarithm of the scale."""
    a, _ = _checked(x)
    return Params(torch.full((), math.log(init_scale), dtype=a.dtype, device=key.bits.device))


def forward(params: Params, x: Pair) -> tuple[Float[Tensor, "*batch n m"], Cache]:
    """Compute y = e^s hat a hat b^T."""
    a, b = _checked(x)
    check_like(NAME, "x", a, params.log_scale)
    least = max(1e-12, torch.finfo(a.dtype).tiny)
    length_a, length_b = (norm_over(rows, 2.0, (-1,)).clamp(min=least) for rows in (a, b))
    a, b = (a / length_a).to(a.dtype), (b / length_b).to(b.dtype)
    y = params.log_scale.exp() * (a @ b.mT)
    return y, Cache(a, b, length_a, length_b, y)


def backward(params: Params, cache: Cache, g: Float[Tensor, "*batch n m"]) -> tuple[Pair, Params]:
    """Compute da = (d_hat_a - hat a sum(d_hat_a hat a)) / |a|, db likewise, and ds = sum of g y."""
    scaled = params.log_scale.exp() * g
    da = _across(widened(scaled @ cache.b), cache.a) / cache.length_a
    db = _across(widened(scaled.mT @ cache.a), cache.b) / cache.length_b
    return (da.to(g.dtype), db.to(g.dtype)), Params((g * cache.y).sum())


def terms(params: Params, cache: Cache, g: Tensor) -> Params:
    """Return ds_n = sum of g y over the rows of example n."""
    # Of a pair without a batch, each row of a has a similarity with all rows of b.
    core.check_batched(NAME, g, 3)
    return core.mirror(params, log_scale=core.sum_axes(g * cache.y, tuple(range(1, g.ndim))))


def _across(drows: Rows, rows: Rows) -> Rows:
    """Take the part of a gradient along the rows out of it."""
    return drows - rows * (drows * rows).sum(-1, keepdim=True)


@core.constructor(kind="similarity", terms=terms)
def cosine_similarities(init_scale: Positive = 1 / 0.07) -> Layer:
    """Compare each row of a with each row of b: y_ij = e^s cos(a_i, b_j), with a trained scale e^s.

    x is (a, b), of shapes (..., n, features) and (..., m, features); y has the shape (..., n, m).
    With n = m and pairs that belong together, y are logits whose targets are 0, 1, ..., n - 1, both
    along the rows and along the columns.

    Args:
        init_scale: the scale before training; the default is CLIP's.

    Example:
        >>> a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
        >>> cosine_similarities().predict(Params(torch.tensor(0.0)), (a, b))
        tensor([[1., 0.]])
    """
    return bare(Layer, forward, backward, init)


def _checked(x: Pair) -> Pair:
    check_form(NAME, x, "(a, b)")
    check_inputs(NAME, x)
    a, b = x
    if min(a.ndim, b.ndim) < 2 or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-1]:
        wanted = "a and b of shapes (..., n, features) and (..., m, features)"
        raise core.unexpected(NAME, wanted, f"{tuple(a.shape)} and {tuple(b.shape)}")
    return a, b
