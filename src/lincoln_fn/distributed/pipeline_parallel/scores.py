"""The scores of a tied embedding as a layer of its own, for the last stage of a pipeline.

Derivation: that of `combine/embedding_scores.py`. The gradients of both copies of E are added up by
the pipeline (`tied_params.py`).

Cache: h.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.combine import embedding_scores
from lincoln_fn.core import Key, Layer, Params, PositiveInt, checked
from lincoln_fn.layers.embedding import embedding


@checked
def scores(num_embeddings: PositiveInt) -> Layer:
    """Score each row of a table of embeddings: y = h E^T.

    As the last layer of a pipeline, with the params of the first stage's embedding, it does what
    `lf.tied` does in one process.

    Args:
        num_embeddings: the number of rows of E.

    Returns:
        The layer, from (..., n_features) to (..., num_embeddings). Its params are those of
        `lf.embedding`.

    Example:
        >>> net = scores(10)
        >>> net.init(lf.Key(0), torch.zeros(2, 3))
        Params(weight=float32[10, 3])
    """
    made = embedding_scores.scores()
    return made.replace(
        name=f"scores({num_embeddings})", init=partial(_init, num_embeddings=num_embeddings)
    )


def _init(key: Key, h: Float[Tensor, "*batch n_features"], *, num_embeddings: int) -> Params:
    """Make the params of an embedding, from an index in place of its example input."""
    table = embedding(num_embeddings, h.shape[-1], dtype=h.dtype)
    return table.init(key, h.new_zeros((), dtype=torch.long))
