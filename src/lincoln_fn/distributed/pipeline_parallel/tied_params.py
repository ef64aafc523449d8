"""Parameters that several stages of a pipeline have in common, such as a tied embedding.

Each stage holds a copy. The copies begin equal. With dp_i the gradient of copy i,

    dp = dp_1 + dp_2 + ...    in the order of the paths

is the gradient of each of them. So the same update keeps them equal, bit for bit.

`scores` is the layer of a tied embedding's scores. Derivation: that of `combine/tied.py`.
Cache: h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import combine
from lincoln_fn.core import Key, Layer, Params, PositiveInt, checked, named_leaves, tree, unexpected
from lincoln_fn.layers.embedding import embedding

# Paths in the params of a pipeline, one for each copy. The first entry is the stage.
Tied: TypeAlias = tuple[str, ...]


def stage_of(path: str) -> int:
    """Return the stage in which a path begins."""
    return int(path.partition(".")[0])


def check_tied(tied: Sequence[Tied], stages: int) -> None:
    """Check that paths begin with a stage, and that the first is in the earliest one."""
    for paths in tied:
        is_known = isinstance(paths, tuple) and len(paths) > 1
        is_known = is_known and all(
            isinstance(path, str) and path.partition(".")[0].isdecimal() for path in paths
        )
        if not is_known or max(map(stage_of, paths)) >= stages:
            raise unexpected("pipeline", f'tied paths such as ("0.0", "{stages - 1}.2")', paths)
        if sorted(paths, key=stage_of) != list(paths):
            raise unexpected("pipeline", "tied paths in the order of their stages", paths)


def leaves_at(params: Params, path: str) -> dict[str, Tensor]:
    """Find the leaves at a path, by the path of each."""
    leaves = dict(named_leaves(params))
    found = {name: leaf for name, leaf in leaves.items() if f"{name}.".startswith(f"{path}.")}
    if not found:
        stage = path.partition(".")[0]
        listed = ", ".join([name for name in leaves if name.startswith(f"{stage}.")][:6])
        expected = "the path of a tied parameter"
        raise unexpected("pipeline", expected, repr(path), f"in its stage there are {listed}")
    return found


def with_leaves(params: Params, new: Mapping[str, Tensor]) -> Params:
    """Replace leaves by path."""
    names = iter(tree.paths(params))
    return tree.map(lambda leaf: new.get(next(names), leaf), params)


def with_copy(params: Params, path: str, first: str, value: Sequence[Tensor]) -> Params:
    """Put copies of the leaves at the first path of a tie at another of its paths."""
    old = leaves_at(params, path)
    shapes, expected = ([tuple(leaf.shape) for leaf in each] for each in (old.values(), value))
    if shapes != expected:
        got = f"{expected} at {first!r} and {shapes} at {path!r}"
        raise unexpected("pipeline", "tied parameters of the same shapes", got)
    return with_leaves(params, dict(zip(old, map(torch.clone, value), strict=True)))


@checked
def scores(num_embeddings: PositiveInt) -> Layer:
    """Score each row of a table of embeddings: y = h E^T.

    As the last layer of a pipeline, with the params of the first stage's embedding, it does what
    `lf.tied` does in one process.

    Returns:
        The layer, from (..., n_features) to (..., num_embeddings). Its params are those of
        `lf.embedding`.

    Example:
        >>> net = scores(10)
        >>> net.init(lf.Key(0), torch.zeros(2, 3))
        Params(weight=float32[10, 3])
    """
    return combine.scores().replace(
        name=f"scores({num_embeddings})", init=partial(_init, num_embeddings=num_embeddings)
    )


def _init(key: Key, h: Float[Tensor, "*batch n_features"], *, num_embeddings: int) -> Params:
    """Make the params of an embedding, from an index in place of its example input."""
    table = embedding(num_embeddings, h.shape[-1], dtype=h.dtype)
    return table.init(key, h.new_zeros((), dtype=torch.long))
