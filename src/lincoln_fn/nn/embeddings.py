"""Constructors of embeddings: what gives indices and positions their vectors."""

from __future__ import annotations

from functools import partial

import torch

from lincoln_fn import layers
from lincoln_fn.initializers import Initializer, normal
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.nn.build import layer_of

__all__ = ["embedding", "positional_embedding", "sinusoidal_positions"]

_EMBEDDING_INIT = normal(1.0)
_POSITION_INIT = normal(0.02)


def embedding(
    num_embeddings: int,
    embedding_dim: int,
    padding_idx: int | None = None,
    *,
    weight_init: Initializer = _EMBEDDING_INIT,
    dtype: torch.dtype = torch.float32,
) -> Layer:
    """Make an embedding, which takes indices of any shape to rows of a trained table.

    Args:
        num_embeddings: the number of rows; indices run from 0 to num_embeddings - 1.
        embedding_dim: the number of features of y.
        padding_idx: the index whose row starts at zero and is not trained, counted from the end
            if it is negative; None for none.
        weight_init: draws the table. The default is torch's: the standard normal distribution.
        dtype: of the table, which indices do not tell.

    Returns:
        The layer, whose params are `layers.embedding.Params`.

    Raises:
        ValueError: if a size is below 1, or there is no row padding_idx.

    Example:
        >>> embedding(1000, 64), embedding(1000, 64, padding_idx=0)
        (embedding(1000, 64), embedding(1000, 64, padding_idx=0))
    """
    for what, size in (("num_embeddings", num_embeddings), ("embedding_dim", embedding_dim)):
        if size < 1:
            raise ValueError(f"embedding: expected {what} of at least 1, got {size}")
    if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
        wanted = f"from {-num_embeddings} to {num_embeddings - 1}"
        raise ValueError(f"embedding: expected padding_idx {wanted}, got {padding_idx}")
    row = None if padding_idx is None else padding_idx % num_embeddings
    init = partial(
        layers.embedding.init,
        num_embeddings=num_embeddings,
        embedding_dim=embedding_dim,
        padding_idx=row,
        weight_init=weight_init,
        dtype=dtype,
    )
    name = call_repr(
        "embedding",
        num_embeddings,
        embedding_dim,
        padding_idx=(padding_idx, None),
        weight_init=(weight_init, _EMBEDDING_INIT),
        dtype=(dtype, torch.float32),
    )
    return layer_of(name, layers.embedding, init, padding_idx=row)


def positional_embedding(max_len: int, *, weight_init: Initializer = _POSITION_INIT) -> Layer:
    """Make a layer that adds a trained vector for each position to x of (..., length, features).

    Args:
        max_len: the greatest length.
        weight_init: draws the vectors. The default is the normal distribution with standard
            deviation 0.02, small beside the features that they are added to.

    Returns:
        The layer, whose params are `layers.positional_embedding.Params`.

    Raises:
        ValueError: if max_len is below 1.

    Example:
        >>> positional_embedding(512)
        positional_embedding(512)
    """
    if max_len < 1:
        raise ValueError(f"positional_embedding: expected max_len of at least 1, got {max_len}")
    init = partial(layers.positional_embedding.init, max_len=max_len, weight_init=weight_init)
    name = call_repr("positional_embedding", max_len, weight_init=(weight_init, _POSITION_INIT))
    return layer_of(name, layers.positional_embedding, init)


def sinusoidal_positions() -> Layer:
    """Make a layer that adds fixed waves along a sequence to x of (..., length, features).

    Returns:
        The layer, without parameters.

    Example:
        >>> sinusoidal_positions()
        sinusoidal_positions()
    """
    return layer_of("sinusoidal_positions()", layers.sinusoidal_positions)
