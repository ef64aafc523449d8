"""States after a step whose examples are divided among processes.

Each shard advances the states by its own examples. A floating state, such as a running mean, is
averaged over all shards, weighted by their examples. Any other state, such as a key, is the same
for all shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.distributed.data_parallel.fixed_tree import Node, add_node
from lincoln_fn.distributed.data_parallel.shards import Shards
from lincoln_fn.distributed.group import Group
from lincoln_fn.layer import Params


def averaged_states(
    shards: Shards,
    group: Group,
    params: Params,
    advanced: Mapping[int, Params],
    bounds: Sequence[int],
) -> Params:
    """Average the states that the shards have advanced.

    Args:
        shards: all of them.
        group: the processes.
        params: those before the step.
        advanced: those of each shard of this process that has examples.
        bounds: where each shard's examples begin, and the number of examples.

    Returns:
        params with the new states. States that no shard has changed stay as they are.
    """
    old = tree.leaves(params, states=True)
    trained = {id(leaf) for leaf in tree.leaves(params)}
    places = [i for i, leaf in enumerate(old) if id(leaf) not in trained]
    floating = [i for i in places if old[i].is_floating_point()]
    others = [i for i in places if not old[i].is_floating_point()]
    new = {shard: tree.leaves(of_shard, states=True) for shard, of_shard in advanced.items()}

    result = list(old)
    averages = _averages(shards, group, old, new, floating, bounds)
    for i, state in zip(floating, averages, strict=True):
        result[i] = state
    owner = next(s for s in range(shards.total) if bounds[s] < bounds[s + 1])
    some = next(iter(new.values()), old)
    if all(_has_examples(shards, rank, bounds) for rank in range(group.size)):
        for i in others:
            result[i] = some[i]
    else:  # a process without examples has not advanced anything
        rank = owner * group.size // shards.total
        for i in others:
            result[i] = group.gather(some[i])[rank]
    each = iter(result)
    return tree.map(lambda _: next(each), params, states=True)


def _has_examples(shards: Shards, rank: int, bounds: Sequence[int]) -> bool:
    own = shards.of(rank)
    return bounds[own.start] < bounds[own.stop]


def _averages(
    shards: Shards,
    group: Group,
    old: Sequence[Tensor],
    new: Mapping[int, Sequence[Tensor]],
    places: Sequence[int],
    bounds: Sequence[int],
) -> list[Tensor]:
    """Average the floating states over the shards, in float64."""
    if not places:
        return []
    sizes = [old[i].numel() for i in places]
    rows = torch.zeros((len(shards.own), len(places) + sum(sizes)), dtype=torch.float64)
    for row, shard in zip(rows, shards.own, strict=True):
        if shard in new:
            of_shard = new[shard]
            flags = torch.tensor([of_shard[i] is not old[i] for i in places])
            values = torch.cat([of_shard[i].flatten().double().cpu() for i in places])
            row.copy_(torch.cat((flags, values * (bounds[shard + 1] - bounds[shard]))))
    known: dict[Node, Tensor] = {}
    for shard, row in enumerate(group.gather(rows).flatten(0, 1)):
        add_node(known, (0, shard), row, shards.total)
    total = next(iter(known.values()))
    changed, states = total[: len(places)], total[len(places) :] / bounds[-1]
    return [
        state.view(old[i].shape).to(old[i]) if is_changed else old[i]
        for i, state, is_changed in zip(places, torch.split(states, sizes), changed, strict=True)
    ]
