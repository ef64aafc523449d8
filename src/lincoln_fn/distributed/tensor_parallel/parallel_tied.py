"""A tied embedding whose rows are divided among processes: y = body(E[x]) E^T.

Process r has the rows E_r, from which it computes the scores of its own indices. So the scores are
column-parallel, with E_r^T for W_r, and all processes get the whole y.

Derivation. With h = body(E[x]), and g_r for the part of g that belongs to E_r,

    dh = sum_r g_r E_r
    dE_r = g_r^T h    and the embedding's own gradient, which `vocab_parallel_embedding.py` derives

Cache: those of the embedding, the body and the scores.
"""

from __future__ import annotations

from lincoln_fn import combine
from lincoln_fn.core import Layer, checked
from lincoln_fn.distributed.group import GROUP, Group
from lincoln_fn.distributed.tensor_parallel.column_parallel import divide_columns


@checked
def parallel_tied(embedding: Layer, body: Layer, group: Group) -> Layer:
    """Embed indices, run a body, and score every index by the same divided matrix.

    `lf.tied` would score only a process's own rows.

    Args:
        embedding: `vocab_parallel_embedding(n_embeddings, n_features, group)`.
        body: from (..., n_features) to (..., n_features), the same in all processes.

    Returns:
        The layer, from indices (...) to logits (..., n_embeddings), the same in all processes.

    Example:
        >>> group = lf.distributed.alone()
        >>> embedding = lf.distributed.vocab_parallel_embedding(10, 4, group)
        >>> parallel_tied(embedding, lf.dense(4), group)
        parallel_tied(vocab_parallel_embedding(10, 4, group), dense(4), group)
    """
    whole = combine.tied(embedding, body)
    scores = divide_columns(
        whole.parts[2], group, gather_output=True, name=f"parallel_scores({GROUP})"
    )
    name = f"parallel_tied({embedding}, {body}, {GROUP})"
    return whole.rebuild((embedding, body, scores), call=name)
