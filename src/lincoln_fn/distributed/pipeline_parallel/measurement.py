"""Times of the stages of a pipeline, measured in this process, and a network cut by them."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from itertools import pairwise

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine import is_serial, serial
from lincoln_fn.core import Arrays, Key, Layer, LayerError, Params, PositiveInt, checked, tree
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.pipeline_parallel.simulation import Times
from lincoln_fn.distributed.pipeline_parallel.stages import device_of, lay_out_as_sent
from lincoln_fn.fastpath import fast
from lincoln_fn.walk import cotangents, grads_at


@attrs.frozen
class Link:
    """A connection between two processes: n bytes take latency + n / bandwidth seconds."""

    latency: float = 0.0
    bandwidth: float = float("inf")

    def seconds(self, n: float) -> float:
        """Return how long n bytes take.

        Example:
            >>> Link(latency=1.0, bandwidth=10.0).seconds(20)
            3.0
        """
        return self.latency + n / self.bandwidth


@attrs.frozen
class Measured:
    """A stage on one microbatch: its times, and the bytes that it keeps."""

    times: Times
    kept: int  # of a cache, or of what W needs, if that is more
    params: int  # of its parameters


@checked
def measure(
    stages: tuple[Layer, ...], x: Arrays, *, link: Link | None = None, repeats: PositiveInt = 5
) -> tuple[Measured, ...]:
    """Measure stages in this process, one after the other.

    Args:
        x: one microbatch.
        link: between two stages; None takes no time.
        repeats: how often each is measured; the least time counts.

    Returns:
        Their times and bytes, without those of a loss.

    Example:
        >>> first, last = measure((lf.dense(4), lf.dense(2)), torch.ones(3, 5), repeats=1)
        >>> first.params, last.kept, last.times.send
        (96, 72, 0.0)
    """
    link, measured = Link() if link is None else link, []
    for i, stage in enumerate(stages):
        layer = fast(stage)
        params = layer.init(Key(i), x)
        y = lay_out_as_sent(layer.forward(params, x)[0])
        g = tree.map(lambda leaf: core.normal(Key(0), tuple(leaf.shape), dtype=leaf.dtype), y)
        rounds = [_round(layer, params, x, g, i > 0) for _ in range(repeats)]
        forward, back, grads = (min(each[k] for each, _ in rounds) for k in range(3))
        send = link.seconds(_bytes(y)) if i < len(stages) - 1 else 0.0
        times = Times(forward, back, grads, send)
        measured.append(Measured(times, rounds[0][1], _bytes(params)))
        x = y
    return tuple(measured)


def measure_link(group: Group, like: Tensor, *, repeats: int = 5) -> Link:
    """Measure the connection between the first two processes of a group, which all call it.

    `like` is a tensor of the size that stages send. It is sent `repeats` times; the least counts.
    """
    if group.size == 1:
        problem = "expected at least 2 processes, got 1; start it by torchrun"
        raise LayerError("measure_link", problem)
    sizes = (like.flatten()[:1], like)
    least = [min(_back_and_forth(group, x) for _ in range(repeats)) for x in sizes]
    own = torch.tensor(least, dtype=torch.float64, device=like.device)
    latency, whole = group.gather(own)[0].tolist()
    rest = max(whole - latency, 1e-9)
    return Link(latency, (like.nbytes - like.itemsize) / rest)


def _back_and_forth(group: Group, x: Tensor) -> float:
    """Send a tensor to the second process and back, and return half the time."""
    begin = time.perf_counter()
    if group.rank == 0:
        sent = group.send(x, 1)
        group.receive(x, 1)
    elif group.rank == 1:
        group.receive(x, 0)
        sent = group.send(x, 0)
    else:
        return 0.0
    if sent is not None:
        sent.wait()
    return (time.perf_counter() - begin) / 2


def _round(
    layer: Layer, params: Params, x: Arrays, g: Arrays, wants_dx: bool
) -> tuple[tuple[float, float, float], int]:
    """Compute F, B and W once, and return their times and the bytes kept between them."""
    with torch.no_grad():
        begin = _now(x)
        _, cache = layer.forward(params, x)
        forward = _now(x)
        _, sites = cotangents(layer, params, cache, g, dx=wants_dx)
        back = _now(x)
        grads_at(layer, params, sites)
        end = _now(x)
    known = _storages(params)
    kept = max(_bytes(each, known) for each in (cache, sites))
    return (forward - begin, back - forward, end - back), kept


def _now(x: Arrays) -> float:
    if device_of(x).type == "cuda":
        torch.cuda.synchronize(device_of(x))
    return time.perf_counter()


def _bytes(arrays: Arrays, known: Collection[int] = ()) -> int:
    """Count the bytes of tensors, each memory once."""
    return sum(size for place, size in _storages(arrays).items() if place not in known)


def _storages(arrays: Arrays) -> dict[int, int]:
    """Return the sizes of the memory of tensors, by address."""
    storages = (leaf.untyped_storage() for leaf in tree.leaves(arrays, states=True))
    return {each.data_ptr(): each.nbytes() for each in storages}


def split_into_stages(net: Layer, x: Arrays, stages: int, *, repeats: int = 3) -> tuple[Layer, ...]:
    """Cut a serial network into stages, so that the slowest is as fast as possible.

    Args:
        net: `lf.serial` or `lf.repeat` of at least as many parts as stages.
        x: an example input, on which the parts are measured.
        repeats: how often each part is measured; the least time counts.

    Example:
        >>> split_into_stages(lf.serial(lf.dense(3), lf.relu()), torch.ones(1, 2), 2)
        (serial(dense(3)), serial(relu()))
    """
    if not (isinstance(net, core.Layer) and is_serial(net)):
        raise core.wrong_kind("split_into_stages", "net", net, "lf.serial of layers")
    count = len(net.parts)
    if not 1 <= stages <= count:
        problem = f"expected from 1 to {count} stages, since net has {count} parts, got {stages}"
        raise LayerError("split_into_stages", problem)
    costs = [each.times.computing for each in measure(net.parts, x, repeats=repeats)]
    return tuple(serial(*net.parts[begin:end]) for begin, end in pairwise(_cuts(costs, stages)))


def _cuts(costs: Sequence[float], count: int) -> list[int]:
    """Divide numbers into intervals whose largest sum is least, by dynamic programming."""
    n = len(costs)
    # By the number of intervals and where they end: the largest sum, and the cuts.
    best: dict[tuple[int, int], tuple[float, list[int]]] = {
        (1, end): (sum(costs[:end]), [0, end]) for end in range(1, n + 1)
    }
    for k in range(2, count + 1):
        for end in range(k, n + 1):
            best[k, end] = min(
                (max(best[k - 1, cut][0], sum(costs[cut:end])), [*best[k - 1, cut][1], end])
                for cut in range(k - 1, end)
            )
    return best[count, n][1]
