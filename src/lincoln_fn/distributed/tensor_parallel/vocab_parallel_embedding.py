"""Vocabulary-parallel embedding: process r has its part of the table's rows.

    W = (W_0, W_1, ..., W_(n-1))    one below the other

Process r looks up the indices of its own rows. With v = x_t,

    y_(t, r) = {(W_v, if row v is in W_r), (0, otherwise):}
    y_t = sum_r y_(t, r)

All terms but one are 0, so the sum is exact: y has the bits of `lf.embedding`'s.

Derivation. All processes have the same y, so they have the same g, and backward sends nothing.
`layers/embedding.py` derives the gradient of a row. Process r computes it for its own rows, from
those g_t whose index is among them:

    dW_v = sum g_t    over all t with x_t = v

Cache: the embedding's own, and which of the indices are in W_r.

**A tied embedding**, y = body(W[x]) W^T. Process r computes the scores of its own indices from W_r.
So they are column-parallel, with W_r^T for W_r, and all processes get the whole y. With
h = body(W[x]), and g_r for the part of g that belongs to W_r,

    dh = sum_r g_r W_r
    dW_r = g_r^T h    and the embedding's own gradient

Cache: those of the embedding, the body and the scores.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lincoln_fn import combine, core
from lincoln_fn.core import FloatingDtype, Key, Layer, PositiveInt, check_params, record
from lincoln_fn.distributed.group import GROUP, Group, check_divisible
from lincoln_fn.distributed.tensor_parallel.collectives import sum_over, take_own_part
from lincoln_fn.distributed.tensor_parallel.parallel_dense import divide_columns
from lincoln_fn.initializers import Initializer, normal
from lincoln_fn.layers import embedding
from lincoln_fn.losses.internal import check_between
from lincoln_fn.walk.internal import Record, VisitBack, VisitThere, around

NAME = "vocab_parallel_embedding"


@record
class Cache:
    """The embedding's cache, and whether each index is in the own rows."""

    embedded: Record
    is_own: Bool[Tensor, "*batch"]


def there(
    visit: VisitThere,
    params: embedding.Params,
    x: Int[Tensor, "*batch"],
    *,
    group: Group,
    num_embeddings: int,
) -> tuple[Float[Tensor, "*batch embedding_dim"], Cache]:
    """Compute y_t = sum_r y_(t, r)."""
    check_params(NAME, params, embedding.Params)
    if not isinstance(x, Tensor):
        raise core.wrong_kind(NAME, "x", x, "tensor")
    check_between(NAME, "indices", x, 0, num_embeddings - 1)  # the part sees only its own rows'
    rows = num_embeddings // group.size
    first = group.rank * rows
    is_own = (x >= first) & (x < first + rows)
    y, embedded = visit(0, params, (x - first).masked_fill(~is_own, 0))
    return sum_over(y.masked_fill(~is_own.unsqueeze(-1), 0), group), Cache(embedded, is_own)


def back(
    visit: VisitBack, params: embedding.Params, cache: Cache, g: Float[Tensor, "*batch n"]
) -> tuple[None, Record]:
    """Compute dW_v from those g_t whose index is in the own rows."""
    check_params(NAME, params, embedding.Params)
    core.check_cache(NAME, cache, Cache)
    _, record = visit(0, params, cache.embedded, g.masked_fill(~cache.is_own.unsqueeze(-1), 0))
    return None, record


def _init_own(
    key: Key, x: Int[Tensor, "*batch"], *, whole: Layer, group: Group
) -> embedding.Params:
    """Keep the own rows; a copy, without which the whole table would stay in memory."""
    return embedding.Params(take_own_part(whole.init(key, x).weight, group, 0).clone())


@core.constructor
def vocab_parallel_embedding(
    num_embeddings: PositiveInt,
    embedding_dim: PositiveInt,
    group: Group,
    padding_idx: int | None = None,
    *,
    weight_init: Initializer = normal(1.0),
    dtype: FloatingDtype = torch.float32,
) -> Layer:
    """Divide the rows of an embedding's table among processes.

    All processes have the same x, and get the same y. Forward adds up y, so all processes must call
    it, and backward sends nothing. The params are `layers.embedding.Params`, with num_embeddings /
    n rows for n processes. Its dx is None.

    Args:
        num_embeddings: the number of rows of the whole table, a multiple of the number of
            processes. A vocabulary of another size gets some rows that no index uses.
        embedding_dim: as for `lf.embedding`; and `padding_idx`.
        weight_init: draws the whole table, of which each process keeps its own rows.

    Source:
        Shoeybi and others, "Megatron-LM", 2019, section 3.

    Example:
        >>> group, x = lf.distributed.alone(), torch.tensor([[1, 1, 0]])
        >>> layer = vocab_parallel_embedding(4, 3, group)
        >>> layer, layer.predict(layer.init(lf.Key(0), x), x).shape
        (vocab_parallel_embedding(4, 3, group), torch.Size([1, 3, 3]))
    """
    check_divisible(NAME, "num_embeddings", num_embeddings, group)
    plain = partial(embedding.embedding, weight_init=weight_init, dtype=dtype)
    whole = plain(num_embeddings, embedding_dim, padding_idx)
    rows = num_embeddings // group.size
    own = None if padding_idx is None else padding_idx % num_embeddings - group.rank * rows
    part = plain(rows, embedding_dim, own if own is not None and 0 <= own < rows else None)
    part = part.replace(init=partial(_init_own, whole=whole, group=group))
    look_up = partial(there, group=group, num_embeddings=num_embeddings)
    # Its cache is its own, and not the part's.
    return core.bare(lambda call: around(NAME, part, look_up, back, call=call, advance=None))


@core.checked
def parallel_tied(embedding: Layer, body: Layer, group: Group) -> Layer:
    """Embed indices, run a body, and score every index by the same divided matrix.

    `lf.tied` would score only a process's own rows. The layer goes from indices (...) to
    logits (..., n_embeddings), the same in all processes.

    Args:
        embedding: `vocab_parallel_embedding(n_embeddings, n_features, group)`.
        body: from (..., n_features) to (..., n_features), the same in all processes.

    Example:
        >>> group = lf.distributed.alone()
        >>> embedding = lf.distributed.vocab_parallel_embedding(10, 4, group)
        >>> parallel_tied(embedding, lf.dense(4), group)
        parallel_tied(vocab_parallel_embedding(10, 4, group), dense(4), group)
    """
    whole = combine.tied(embedding, body)
    called = f"parallel_scores({GROUP})"
    scores = divide_columns(whole.parts[2], group, gather_output=True, name=called)
    name = f"parallel_tied({embedding}, {body}, {GROUP})"
    return whole.rebuild((embedding, body, scores), call=name)
