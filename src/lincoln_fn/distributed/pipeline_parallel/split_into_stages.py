"""A serial network, cut into the stages of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from lincoln_fn.combine import is_serial, serial
from lincoln_fn.core import Arrays, Layer, LayerError, wrong_kind
from lincoln_fn.distributed.pipeline_parallel.measurement import measure


def split_into_stages(net: Layer, x: Arrays, stages: int, *, repeats: int = 3) -> tuple[Layer, ...]:
    """Cut a serial network into stages, so that the slowest is as fast as possible.

    Args:
        net: `lf.serial` or `lf.repeat` of at least as many parts as stages.
        x: an example input, on which the parts are measured.
        stages: how many.
        repeats: how often each part is measured; the least time counts.

    Returns:
        The stages: each is `lf.serial` of some parts.

    Raises:
        LayerError: if the network is not serial, or has too few parts.

    Example:
        >>> split_into_stages(lf.serial(lf.dense(3), lf.relu()), torch.ones(1, 2), 2)
        (serial(dense(3)), serial(relu()))
    """
    if not (isinstance(net, Layer) and is_serial(net)):
        raise wrong_kind("split_into_stages", "net", net, "lf.serial of layers")
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
