"""The layer that a pipeline trains: stages one after the other, each in a process of its own.

Each process has the params of its own stages, and () for the others. A function of the layer is
called in all processes, with the same x. Each process computes its stages, and sends the output to
the next one; the last output goes to all. So all have the same y, and in backward the same dx.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch

from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, tree
from lincoln_fn.distributed.data_parallel.shards import align
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.pipeline_parallel.messages import Connections, Message
from lincoln_fn.distributed.pipeline_parallel.tied_params import Tied, get_at, stage_of, with_copy
from lincoln_fn.walk import VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record, output_of


@attrs.frozen(eq=False)
class Stages:
    """Which process has which stage."""

    group: Group
    count: int  # a multiple of the number of processes
    tied: tuple[Tied, ...] = ()  # the paths of parameters that are one

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
        records: list[Record] = [()] * self.count

        def compute(stage: int, x: Arrays) -> Arrays:
            y, records[stage] = visit(stage, params[stage], x)
            return y

        return self._pass_on(compute, x, range(self.count), "forward"), tuple(records)

    def back(
        self, visit: VisitBack, params: Params, cache: Cache, g: Arrays
    ) -> tuple[Arrays, Record]:
        """Pass each stage's dx to the one before it, and the first one's to all."""
        check_entries(visit.label, "params", params, self.count)
        check_entries(visit.label, "the cache", cache, self.count)
        records: list[Record] = [()] * self.count

        def compute(stage: int, g: Arrays) -> Arrays:
            dx, records[stage] = visit(stage, params[stage], cache[stage], g)
            return dx

        order = range(self.count - 1, -1, -1)
        return self._pass_on(compute, g, order, "backward"), tuple(records)

    def init(self, parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
        """Draw the params of this process's stages, and those of earlier stages for a moment."""
        kept: list[Params] = [()] * self.count
        firsts: dict[str, Params] = {}
        for stage in range(self.own.stop):
            made = (*[()] * stage, parts[stage].init(key.fold_in(stage), x))
            for first, *others in self.tied:
                if stage_of(first) == stage:
                    firsts[first] = get_at(made, first)
                for path in others:
                    if stage_of(path) == stage:
                        made = with_copy(made, path, first, firsts[first])
            x = output_of(parts[stage], made[stage], x)
            if stage in self.own:
                kept[stage] = made[stage]
        return tuple(kept)

    def advance(self, visit: VisitThere, params: Params, cache: Cache) -> Params:
        """Advance the stages of this process."""
        return tuple(
            visit.advance(stage, entry, cache[stage]) if stage in self.own else entry
            for stage, entry in enumerate(params)
        )

    def _pass_on(
        self, compute: Callable[[int, Arrays], Arrays], x: Arrays, order: range, call: str
    ) -> Arrays:
        """Compute the stages in an order, and return the last one's result in all processes."""
        if self.group.size == 1:
            for stage in order:
                x = lay_out_as_sent(compute(stage, x))
            return x
        rank, last = self.group.rank, self.process_of(order[-1])
        is_first = order[0] in self.own
        with Connections(self.group, device_of(x), {"call": f"{call} of a pipeline"}) as messages:
            if not is_first:
                messages.expect(rank - order.step, ["x"])
            if rank != last:
                messages.expect(last, ["y"])
            if not is_first:
                x = messages.receive("x").arrays
            for stage in order:
                if stage in self.own:
                    x = lay_out_as_sent(compute(stage, x))
            if rank != last:
                messages.send(rank + order.step, Message(x))
                return messages.receive("y").arrays
            for other in range(self.group.size):
                if other != rank:
                    messages.send(other, Message(x))
            return x


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
