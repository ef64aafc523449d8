"""States after a step whose examples are divided among processes.

Each shard advances the states by its own examples. A floating state, such as a running mean, is
averaged over all shards, weighted by their examples. Any other state, such as a key, is the same
for all shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lincoln_fn.core import Params, tree
from lincoln_fn.distributed.data_parallel.fixed_tree import sum_rows
from lincoln_fn.distributed.data_parallel.shards import Shards
from lincoln_fn.distributed.group import Group


def average_states(
    shards: Shards, params: Params, advanced: Mapping[int, Params], bounds: Sequence[int]
) -> Params:
    """Average the states that the shards have advanced; those that none has changed stay."""
    group = shards.group
    old = tree.leaves(params, states=True)
    trained = {id(leaf) for leaf in tree.leaves(params)}
    new = {shard: tree.leaves(of_shard, states=True) for shard, of_shard in advanced.items()}
    changed = _find_changed(
        group, old, [i for i, leaf in enumerate(old) if id(leaf) not in trained], new
    )
    floating = [i for i in changed if old[i].is_floating_point()]
    result = list(old)
    averages = _averages(shards, old, new, floating, bounds)
    for i, state in zip(floating, averages, strict=True):
        result[i] = state
    owner = next(rank for rank in range(group.size) if _has_examples(shards, rank, bounds))
    own = next(iter(new.values()), old)
    is_known = all(_has_examples(shards, rank, bounds) for rank in range(group.size))
    for i in changed:
        if not old[i].is_floating_point():
            # A process without examples has not advanced anything.
            result[i] = own[i] if is_known else group.gather(own[i])[owner]
    each = iter(result)
    return tree.map(lambda _: next(each), params, states=True)


def _find_changed(
    group: Group,
    old: Sequence[Tensor],
    places: Sequence[int],
    new: Mapping[int, Sequence[Tensor]],
) -> list[int]:
    """Return the places of the states that a shard of any process has changed."""
    # The parameters of a frozen layer are states, too. They need not be sent.
    flags = [any(leaves[i] is not old[i] for leaves in new.values()) for i in places]
    of_any = group.gather(torch.tensor(flags)).any(0).tolist()
    return [i for i, is_changed in zip(places, of_any, strict=True) if is_changed]


def _has_examples(shards: Shards, rank: int, bounds: Sequence[int]) -> bool:
    own = shards.of(rank)
    return bounds[own.start] < bounds[own.stop]


def _averages(
    shards: Shards,
    old: Sequence[Tensor],
    new: Mapping[int, Sequence[Tensor]],
    places: Sequence[int],
    bounds: Sequence[int],
) -> list[Tensor]:
    """Average the floating states over the shards, in float64."""
    if not places:
        return []
    sizes = [old[i].numel() for i in places]
    rows = torch.zeros((len(shards.own), sum(sizes)), dtype=torch.float64)
    for row, shard in zip(rows, shards.own, strict=True):
        if shard in new:
            values = torch.cat([new[shard][i].flatten().double().cpu() for i in places])
            row.copy_(values * (bounds[shard + 1] - bounds[shard]))
    averages = torch.split(sum_rows(shards.group.gather(rows).flatten(0, 1)) / bounds[-1], sizes)
    return [
        average.view(old[i].shape).to(old[i]) for i, average in zip(places, averages, strict=True)
    ]
