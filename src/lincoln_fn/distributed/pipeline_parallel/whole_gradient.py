"""What the gradient of a pipeline's network needs from all its stages: sums of ties, and the norm.

    dp = dp_1 + dp_2 + ...                       for the copies of a tied parameter
    dp min(1, max_norm / (|dp| + 1e-6))          |dp| is the norm of the whole gradient

A copy of a tied parameter counts once in the norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce

import torch
from torch import Tensor

from lincoln_fn.core import Params, tree
from lincoln_fn.distributed.pipeline_parallel.messages import Connections, Message
from lincoln_fn.distributed.pipeline_parallel.stages import Stages
from lincoln_fn.distributed.pipeline_parallel.tied_params import get_at, set_at, stage_of
from lincoln_fn.optim.internal import transforms


def expect_gradients(stages: Stages, messages: Connections, *, norms: bool) -> None:
    """Begin to receive what `sum_tied` and `clip` wait for."""
    rank = stages.group.rank
    for tied in stages.tied:
        homes = [stages.process_of(stage_of(path)) for path in tied]
        for path, home in zip(tied, homes, strict=True):
            if rank in homes and home != rank:
                messages.expect(home, [("dp", path)])
    if norms:
        for other in _others(stages):
            messages.expect(other, [("norms", other)])


def sum_tied(dparams: Params, stages: Stages, messages: Connections) -> Params:
    """Give each copy of a tied parameter the sum of the gradients of all copies."""
    rank = stages.group.rank
    for tied in stages.tied:
        homes = {path: stages.process_of(stage_of(path)) for path in tied}
        own = {path: get_at(dparams, path) for path in tied if homes[path] == rank}
        for path, dp in own.items():
            for other in sorted({*homes.values()} - {rank}):
                messages.send(other, Message(tuple(tree.leaves(dp))))
        if own:
            like = next(iter(own.values()))
            terms = [
                own[path] if path in own else _receive_tree(messages, path, like) for path in tied
            ]
            total = reduce(partial(tree.map, torch.add), terms)
            for path in own:
                dparams = set_at(dparams, path, total)
    return dparams


def _receive_tree(messages: Connections, path: str, like: Params) -> Params:
    leaves = iter(messages.receive(("dp", path)).arrays)
    return tree.map(lambda _: next(leaves), like)


def clip(dparams: Params, max_norm: float, stages: Stages, messages: Connections) -> Params:
    """Clip the whole network's gradient by its norm, as `optim.clip_by_global_norm` does."""
    counted = _list_counted(dparams, stages)
    own = [torch.linalg.vector_norm(transforms.widened(leaf)) for leaf in counted]
    for other in _others(stages):
        messages.send(other, Message(torch.stack(own) if own else None))
    norms = {other: messages.receive(("norms", other)).arrays for other in _others(stages)}
    norms[stages.group.rank] = torch.stack(own) if own else None
    known = [each for _, each in sorted(norms.items()) if each is not None]
    if not known:
        return dparams
    norm = torch.linalg.vector_norm(torch.cat(known))
    return transforms.clip(dparams, norm, max_norm)


def _list_counted(dparams: Params, stages: Stages) -> Iterator[Tensor]:
    """Give the leaves without further copies of a tied parameter."""
    copies = [path for _, *others in stages.tied for path in others]
    for path, leaf in zip(tree.paths(dparams), tree.leaves(dparams), strict=True):
        if not any(f"{path}.".startswith(f"{copy}.") for copy in copies):
            yield leaf


def _others(stages: Stages) -> list[int]:
    return [other for other in range(stages.group.size) if other != stages.group.rank]
