"""The layer that a pipeline trains: stages one after the other, each in a process of its own.

Each process has the params of its own stages, and () for the others. A function of the layer is
called in all processes, with the same x. Each process computes its stages, and sends the output to
the next one; the last output goes to all. So all have the same y, and in backward the same dx.

The gradient needs from all stages the sums of ties, and the norm:

    dp = dp_1 + dp_2 + ...                       for the copies of a tied parameter
    dp min(1, max_norm / (|dp| + 1e-6))          |dp| is the norm of the whole gradient

A tied parameter, such as an embedding, is one that several stages have in common. Each stage holds
a copy. The copies begin equal, and with dp_i the gradient of copy i, dp is that of each of them, in
the order of the paths. So the same update keeps them equal, bit for bit. The norm counts one copy.

`scores` is the layer of a tied embedding's scores. Derivation: that of `combine/tied.py`.
Cache: h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import TypeAlias

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import combine, core
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, PositiveInt, tree, unexpected
from lincoln_fn.distributed.data_parallel.agreement import check_same
from lincoln_fn.distributed.data_parallel.shards import align
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.pipeline_parallel.messages import Connections
from lincoln_fn.layers.embedding import embedding
from lincoln_fn.optim.internal import transforms
from lincoln_fn.walk import VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record, output_of

# Paths in the params of a pipeline, one for each copy. The first entry is the stage.
Tied: TypeAlias = tuple[str, ...]


def stage_of(path: str) -> int:
    """Return the stage in which a path begins."""
    return int(path.partition(".")[0])


def check_tied(tied: Sequence[Tied], stages: int) -> None:
    """Check that paths begin with a stage, and that the first is in the earliest one."""
    for paths in tied:
        are_paths = isinstance(paths, tuple) and all(isinstance(path, str) for path in paths)
        is_known = are_paths and all(path.partition(".")[0].isdecimal() for path in paths)
        if not is_known or len(paths) < 2 or max(map(stage_of, paths)) >= stages:
            raise unexpected("pipeline", f'tied paths such as ("0.0", "{stages - 1}.2")', paths)
        if sorted(paths, key=stage_of) != list(paths):
            raise unexpected("pipeline", "tied paths in the order of their stages", paths)


def leaves_at(params: Params, path: str) -> dict[str, Tensor]:
    """Find the leaves at a path, by the path of each."""
    leaves = dict(core.named_leaves(params))
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


@core.checked
def scores(num_embeddings: PositiveInt) -> Layer:
    """Score each row of a table of embeddings: y = h E^T.

    As the last layer of a pipeline, with the params of the first stage's embedding, it does what
    `lf.tied` does in one process. It goes from (..., n_features) to (..., num_embeddings). Its
    params are those of `lf.embedding`.

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


@attrs.frozen(eq=False)
class Stages:
    """Which process has which stage."""

    group: Group
    count: int  # a multiple of the number of processes
    tied: tuple[Tied, ...] = ()  # the paths of parameters that are one

    def __attrs_post_init__(self) -> None:
        check_tied(self.tied, self.count)

    def join(self, parts: tuple[Layer, ...]) -> Layer:
        """Make the layer of all stages."""
        return composition(
            "pipeline", parts, self.there, self.back, init=self.init, advance=self.advance,
            needs_dx=lambda i, params: i > 0,  # another process's params may be trained
        )  # fmt: skip

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
                if stage_of(first) == stage:
                    firsts[first] = [*leaves_at(params, first).values()]
                for path in others:
                    if stage_of(path) == stage:
                        params = with_copy(params, path, first, firsts[first])
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
            homes = [self.process_of(stage_of(path)) for path in tied]
            paths = [path for path, home in zip(tied, homes, strict=True) if home == rank]
            if not paths:
                continue
            leaves = [leaves_at(dparams, path) for path in paths]
            own = tuple(tuple(of_path.values()) for of_path in leaves)
            copies = messages.exchange({*homes} - {rank}, ("dp", tied), own)
            each = {home: iter(of_home) for home, of_home in copies.items()}
            terms = [next(each[home]) for home in homes]  # in the order of the paths
            sums = [reduce(torch.add, uses) for uses in zip(*terms, strict=True)]
            new = {name: dp for names in leaves for name, dp in zip(names, sums, strict=True)}
            dparams = with_leaves(dparams, new)
        return dparams

    def clip(self, dparams: Params, max_norm: float, messages: Connections) -> Params:
        """Clip the whole network's gradient by its norm, as `optim.clip_by_global_norm` does."""
        copies = tuple(f"{path}." for _, *others in self.tied for path in others)
        own = [
            torch.linalg.vector_norm(transforms.widened(leaf))
            for path, leaf in core.named_leaves(dparams)
            if not f"{path}.".startswith(copies)
        ]
        others = {*range(self.group.size)} - {self.group.rank}
        norms = messages.exchange(others, "norms", torch.stack(own) if own else None)
        known = [each for _, each in sorted(norms.items()) if each is not None]
        if not known:
            return dparams
        return transforms.clip(dparams, torch.linalg.vector_norm(torch.cat(known)), max_norm)

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


def lay_out_as_sent(arrays: Arrays) -> Arrays:
    """Copy tensors to the memory layout of a message, because some products depend on it."""
    return tree.map(lambda leaf: align(leaf.contiguous()), arrays)


def device_of(arrays: Arrays) -> torch.device:
    """Return the device of some tensors."""
    return next((leaf.device for leaf in tree.leaves(arrays)), torch.device("cpu"))
