"""Embedding: row x_t of a table of weights for each index x_t.

Derivation. With v for x_t,

    y_(tj) = W_(vj)    v = x_t

so the gradient of a row of W is the sum of the rows of g with its index:

    delta_(vt) = {(1, if x_t = v), (0, otherwise):}
    dW_(vj) = sum_t delta_(vt) g_(tj)

Row `padding_idx`, if there is one, starts at zero and has the gradient zero, so training leaves it
there. Indices have no gradient: dx is None.

In half precision a sum of many small rows would stop growing: in bfloat16, 256 + 1 = 256. So these
sums are computed in float32.

Cache: x, the shape of y, and padding_idx.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import FloatingDtype, Key, Layer, Like, PositiveInt, record
from lincoln_fn.initializers import Fans, Initializer, normal
from lincoln_fn.layers.common.inputs import add_at, check_integers, in_range


@record
class Params:
    """The table W, one row per index."""

    weight: Float[Tensor, "num_embeddings embedding_dim"]


@record
class Cache:
    x: Int[Tensor, "*batch"]
    y: Like = core.static()
    padding_idx: int | None = core.static()


def init(
    key: Key, x: Int[Tensor, "*batch"], *, num_embeddings: int, embedding_dim: int,
    padding_idx: int | None, weight_init: Initializer, dtype: torch.dtype,
) -> Params:  # fmt: skip
    """Draw W, with zeros in row padding_idx."""
    check_integers("embedding", "x", x)
    fans = Fans(num_embeddings, embedding_dim)
    weight = weight_init.draw(key, (num_embeddings, embedding_dim), fans, dtype)
    if padding_idx is not None:
        is_padding = torch.arange(num_embeddings, device=weight.device) == padding_idx
        weight = weight.masked_fill(is_padding.unsqueeze(-1), 0)
    return Params(weight)


def forward(
    params: Params, x: Int[Tensor, "*batch"], *, padding_idx: int | None
) -> tuple[Float[Tensor, "*batch embedding_dim"], Cache]:
    """Compute y_t = W_v with v = x_t."""
    weight = params.weight
    check_integers("embedding", "x", x, weight.device)
    count, _ = core.shape_of("embedding", weight, "(num_embeddings, n)")
    y = in_range("embedding", x, count, lambda: torch.nn.functional.embedding(x.long(), weight))
    return y, Cache(x, Like.of(y), padding_idx)


def backward(
    params: Params, cache: Cache, g: Float[Tensor, "*batch embedding_dim"]
) -> tuple[None, Params]:
    """Compute dW_v = sum of g_t over all t with x_t = v, and zero for v = padding_idx."""
    rows, index = g.reshape(-1, g.shape[-1]), cache.x.long().flatten()
    if cache.padding_idx is not None:
        rows = rows.masked_fill((index == cache.padding_idx).unsqueeze(-1), 0)
    return None, Params(add_at(index, rows, len(params.weight), 0))


def input_grad(params: Params, cache: Cache, g: Float[Tensor, "*batch embedding_dim"]) -> None:
    """Return None: indices have no gradient."""


def terms(params: Params, cache: Cache, g: Tensor) -> Params:
    """Return dW_n: g_nt in row x_nt, and zeros where x_nt = padding_idx."""
    core.check_batched("embedding", g)
    index, rows = cache.x.long(), g
    if cache.padding_idx is not None:
        rows = g.masked_fill((index == cache.padding_idx).unsqueeze(-1), 0)
    return core.mirror(params, weight=core.Gather(index, rows))


core.declare(input_grad, reads=())


@core.constructor(kind="embedding", terms=terms)
def embedding(
    num_embeddings: PositiveInt, embedding_dim: PositiveInt, padding_idx: int | None = None,
    *, weight_init: Initializer = normal(1.0), dtype: FloatingDtype = torch.float32,
) -> Layer:  # fmt: skip
    """Look up rows of a trained table: row x_t for each index x_t.

    x holds indices from 0 to num_embeddings - 1, of any integer dtype and any shape; y has x's
    shape, with a last axis of embedding_dim features. dx is None. On a GPU, the device reports an
    index out of range.

    Args:
        padding_idx: the index whose row starts at zero and is not trained, counted from the end if
            it is negative; None for none.
        weight_init: draws the table. The default is torch's: the standard normal distribution.
        dtype: of the table; it cannot be found from indices.

    Example:
        >>> params = Params(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> embedding(2, 2).predict(params, torch.tensor([1, 0]))
        tensor([[3., 4.],
                [1., 2.]])
    """
    is_row = padding_idx is None or -num_embeddings <= padding_idx < num_embeddings
    wanted = f"padding_idx from {-num_embeddings} to {num_embeddings - 1}"
    core.require(is_row, "embedding", wanted, padding_idx)
    row = None if padding_idx is None else padding_idx % num_embeddings
    bound = partial(forward, padding_idx=row), backward, partial(init, padding_idx=row)
    return core.bare(Layer, *bound, input_grad=input_grad)
