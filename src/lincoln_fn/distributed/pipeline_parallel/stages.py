"""The layer that a pipeline trains: stages one after the other, each in a process of its own.

Each process has the params of its own stages, and () for the others. A function of the layer is
called in all processes, with the same x. Each process computes its stages, and sends the output to
the next one; the last output goes to all. So all have the same y, and in backward the same dx.

The gradient needs from all stages the sums of ties, and the norm:

    dp = dp_1 + dp_2 + ...                       for the copies of a tied parameter
    dp min(1, max_norm / (|dp| + 1e-6))          |dp| is the norm of the whole gradient

A copy of a tied parameter counts once in the norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, named_leaves, tree
from lincoln_fn.distributed.data_parallel.agreement import check_same
from lincoln_fn.distributed.data_parallel.shards import align
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.pipeline_parallel import tied_params
from lincoln_fn.distributed.pipeline_parallel.messages import Connections
from lincoln_fn.optim.internal import transforms
from lincoln_fn.walk import VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record, output_of


@attrs.frozen(eq=False)
class Stages:
    """Which process has which stage."""

    group: Group
    count: int  # a multiple of the number of processes
    tied: tuple[tied_params.Tied, ...] = ()  # the paths of parameters that are one

    @property
    def own(self) -> range:
        """The stages of this process."""
        each = self.count // self.group.size
        return range(self.group.rank * each, (self.group.rank + 1) * each)

    def process_of(self, stage: int) -> int:
        """Return the process that has a stage."""
        return stage * self.group.size // self.count

    def there(self, visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Record]:
        """Pass each stage's output to the next, and the last one's to all."""
        check_entries(visit.label, "params", params, self.count)
        return self._pass_on(lambda s, x: visit(s, params[s], x), x, range(self.count), "forward")

    def back(
        self, visit: VisitBack, params: Params, cache: Cache, g: Arrays
    ) -> tuple[Arrays, Record]:
        """Pass each stage's dx to the one before it, and the first one's to all."""
        check_entries(visit.label, "params", params, self.count)
        check_entries(visit.label, "the cache", cache, self.count)
        order = range(self.count - 1, -1, -1)
        return self._pass_on(lambda s, g: visit(s, params[s], cache[s], g), g, order, "backward")

    def init(self, parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
        """Draw the params of this process's stages, and those of earlier stages for a moment."""
        own: list[Params] = [()] * self.count
        firsts: dict[str, Sequence[Tensor]] = {}
        for stage in range(self.own.stop):
            params = (*[()] * stage, parts[stage].init(key.fold_in(stage), x))
            for first, *others in self.tied:
                if tied_params.stage_of(first) == stage:
                    firsts[first] = [*tied_params.leaves_at(params, first).values()]
                for path in others:
                    if tied_params.stage_of(path) == stage:
                        params = tied_params.with_copy(params, path, first, firsts[first])
            x = output_of(parts[stage], params[stage], x)
            if stage in self.own:
                own[stage] = params[stage]
        return tuple(own)

    def advance(self, visit: VisitThere, params: Params, cache: Cache) -> Params:
        """Advance the stages of this process."""
        return tuple(
            visit.advance(stage, entry, cache[stage]) if stage in self.own else entry
            for stage, entry in enumerate(params)
        )

    def sum_tied(self, dparams: Params, messages: Connections) -> Params:
        """Give each copy of a tied parameter the sum of the gradients of all copies."""
        rank = self.group.rank
        for tied in self.tied:
            homes = [self.process_of(tied_params.stage_of(path)) for path in tied]
            paths = [path for path, home in zip(tied, homes, strict=True) if home == rank]
            if not paths:
                continue
            leaves = [tied_params.leaves_at(dparams, path) for path in paths]
            own = tuple(tuple(of_path.values()) for of_path in leaves)
            copies = messages.exchange({*homes} - {rank}, ("dp", tied), own)
            each = {home: iter(of_home) for home, of_home in copies.items()}
            terms = [next(each[home]) for home in homes]  # in the order of the paths
            sums = [reduce(torch.add, uses) for uses in zip(*terms, strict=True)]
            new = {name: dp for names in leaves for name, dp in zip(names, sums, strict=True)}
            dparams = tied_params.with_leaves(dparams, new)
        return dparams

    def clip(self, dparams: Params, max_norm: float, messages: Connections) -> Params:
        """Clip the whole network's gradient by its norm, as `optim.clip_by_global_norm` does."""
        counted = self._list_counted(dparams)
        own = [torch.linalg.vector_norm(transforms.widened(leaf)) for leaf in counted]
        others = {*range(self.group.size)} - {self.group.rank}
        norms = messages.exchange(others, "norms", torch.stack(own) if own else None)
        known = [each for _, each in sorted(norms.items()) if each is not None]
        if not known:
            return dparams
        return transforms.clip(dparams, torch.linalg.vector_norm(torch.cat(known)), max_norm)

    def _list_counted(self, dparams: Params) -> Iterator[Tensor]:
        """Give the leaves without further copies of a tied parameter."""
        copies = [path for _, *others in self.tied for path in others]
        for path, leaf in named_leaves(dparams):
            if not any(f"{path}.".startswith(f"{copy}.") for copy in copies):
                yield leaf

    def _pass_on(
        self, compute: Callable[[int, Arrays], tuple[Arrays, Record]], x: Arrays, order: range,
        call: str,
    ) -> tuple[Arrays, Record]:  # fmt: skip
        """Compute the stages in an order, and return the last one's result in all processes."""
        records: list[Record] = [()] * self.count
        rank, last = self.group.rank, self.process_of(order[-1])
        check_same(f"{call} of a pipeline", self.group, {})
        with Connections(self.group, device_of(x)) as messages:
            if order[0] not in self.own:
                messages.expect(rank - order.step, ["x"])
            if rank != last:
                messages.expect(last, ["y"])
            if order[0] not in self.own:
                x = messages.receive("x")
            for stage in order:
                if stage in self.own:
                    y, records[stage] = compute(stage, x)
                    x = lay_out_as_sent(y)
            others = {*range(self.group.size)} - {rank}
            for other in others if rank == last else [rank + order.step]:
                messages.send(other, x)
            if rank != last:
                x = messages.receive("y")
        return x, tuple(records)


def join_stages(parts: tuple[Layer, ...], stages: Stages) -> Layer:
    """Make the layer of all stages."""
    return composition(
        "pipeline", parts, stages.there, stages.back,
        init=stages.init, advance=stages.advance, needs_dx=_needs_dx,
    )  # fmt: skip


def _needs_dx(i: int, params: Params) -> bool:
    return i > 0  # another process's params may be trained


def lay_out_as_sent(arrays: Arrays) -> Arrays:
    """Copy tensors to the memory layout of a message, because some products depend on it."""
    return tree.map(lambda leaf: align(leaf.contiguous()), arrays)


def device_of(arrays: Arrays) -> torch.device:
    """Return the device of some tensors."""
    return next((leaf.device for leaf in tree.leaves(arrays)), torch.device("cpu"))
