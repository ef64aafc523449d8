"""What the gradient of a pipeline's network needs from all its stages: sums of ties, and the norm.

    dp = dp_1 + dp_2 + ...                       for the copies of a tied parameter
    dp min(1, max_norm / (|dp| + 1e-6))          |dp| is the norm of the whole gradient

A copy of a tied parameter counts once in the norm.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.layer import Params
from lincoln_fn.distributed.pipeline_parallel.messages import Connections, Message
from lincoln_fn.distributed.pipeline_parallel.stages import Stages
from lincoln_fn.distributed.pipeline_parallel.tied_params import get_at, set_at, stage_of
from lincoln_fn.optim import transforms


def expect_gradients(stages: Stages, messages: Connections, *, norms: bool) -> None:
    """Begin to receive what `sum_tied` and `clip` wait for."""
    rank = stages.group.rank
    for first, *others in stages.tied:
        home = stages.process_of(stage_of(first))
        for path in others:
            process = stages.process_of(stage_of(path))
            if process != home == rank:
                messages.expect(process, [("dp", path)])
            if process == rank != home:
                messages.expect(home, [("sum", path)])
    if norms:
        for other in _others(stages):
            messages.expect(other, [("norms", other)])


def sum_tied(dparams: Params, stages: Stages, messages: Connections) -> Params:
    """Give each copy of a tied parameter the sum of the gradients of all copies."""
    rank = stages.group.rank
    for first, *others in stages.tied:
        process_of = {path: stages.process_of(stage_of(path)) for path in (first, *others)}
        home = process_of[first]
        for path in others:
            if process_of[path] == rank != home:
                messages.send(home, Message(tuple(tree.leaves(get_at(dparams, path)))))
        if rank == home:
            total = get_at(dparams, first)
            for path in others:
                is_here = process_of[path] == rank
                dp = (
                    get_at(dparams, path)
                    if is_here
                    else _receive_tree(messages, ("dp", path), total)
                )
                total = tree.map(torch.add, total, dp)
            for path in (first, *others):
                if process_of[path] == rank:
                    dparams = set_at(dparams, path, total)
                else:
                    messages.send(process_of[path], Message(tuple(tree.leaves(total))))
        for path in others:
            if process_of[path] == rank != home:
                total = _receive_tree(messages, ("sum", path), get_at(dparams, path))
                dparams = set_at(dparams, path, total)
    return dparams


def _receive_tree(messages: Connections, key: Hashable, like: Params) -> Params:
    leaves = iter(messages.receive(key).arrays)
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
