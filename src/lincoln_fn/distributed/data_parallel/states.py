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
from lincoln_fn.distributed.data_parallel.shards import Shards, sum_rows


def average_states(
    shards: Shards, params: Params, advanced: Mapping[int, Params], bounds: Sequence[int]
) -> Params:
    """Average the states that the shards have advanced; those that none has changed stay."""
    group, old = shards.group, tree.leaves(params, states=True)
    trained = {id(leaf) for leaf in tree.leaves(params)}
    new = {shard: tree.leaves(of_shard, states=True) for shard, of_shard in advanced.items()}
    # The parameters of a frozen layer are states, too. They need not be sent.
    states = [i for i, leaf in enumerate(old) if id(leaf) not in trained]
    flags = [any(leaves[i] is not old[i] for leaves in new.values()) for i in states]
    of_any = group.gather(torch.tensor(flags)).any(0).tolist()
    changed = [i for i, is_changed in zip(states, of_any, strict=True) if is_changed]
    floating = [i for i in changed if old[i].is_floating_point()]
    result = dict(enumerate(old))
    if floating:
        averages = _averages(shards, [old[i] for i in floating], {
            shard: [leaves[i] for i in floating] for shard, leaves in new.items()
        }, bounds)  # fmt: skip
        result |= zip(floating, averages, strict=True)
    owned = [shards.of(rank) for rank in range(group.size)]
    has_examples = [bounds[own.start] < bounds[own.stop] for own in owned]
    own = next(iter(new.values()), old)
    for i in changed:
        if i not in floating:
            # A process without examples has not advanced anything.
            known = all(has_examples)
            result[i] = own[i] if known else group.gather(own[i])[has_examples.index(True)]
    each = iter(result.values())
    return tree.map(lambda _: next(each), params, states=True)


def _averages(
    shards: Shards, old: Sequence[Tensor], new: Mapping[int, Sequence[Tensor]],
    bounds: Sequence[int],
) -> list[Tensor]:  # fmt: skip
    """Average the floating states over the shards, in float64."""
    sizes = [leaf.numel() for leaf in old]
    rows = torch.zeros((len(shards.own), sum(sizes)), dtype=torch.float64)
    for row, shard in zip(rows, shards.own, strict=True):
        if shard in new:
            values = torch.cat([leaf.flatten().double().cpu() for leaf in new[shard]])
            row.copy_(values * (bounds[shard + 1] - bounds[shard]))
    averages = torch.split(sum_rows(shards.group.gather(rows).flatten(0, 1)) / bounds[-1], sizes)
    return [average.view(leaf.shape).to(leaf) for average, leaf in zip(averages, old, strict=True)]
