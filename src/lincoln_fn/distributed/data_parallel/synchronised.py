"""Layers that communicate in the middle of a pass, when one process computes several shards.

Such shards are computed at the same time, each by a thread. In a layer that communicates, the
threads meet: each brings its tensor, and leaves with those of all shards of all processes.

Synchronised batch norm is one. Shard s has m_s values for each channel, with the mean mu_s and the
sum of squares about it, q_s. By Chan, Golub and LeVeque (1979), with m = sum_s m_s,

    mean = sum_s m_s mu_s / m
    var = sum_s (q_s + m_s (mu_s - mean)^2) / m
    y = x_hat w + b    with x_hat = (x - mean) rstd and rstd = 1 / sqrt(var + eps)

Derivation. mean and var depend on every example, so the means in batch norm's backward pass, which
`layers/layer_norm.py` derives, are over all shards:

    d hat x = g w
    dx = rstd (d hat x - sum_s a_s / m - hat x sum_s b_s / m)
    a_s = sum d hat x,    b_s = sum d hat x hat x    over the shard's own values
    dw = sum g hat x,    db = sum g    over the shard's own values

The gradients of w and b are added up with those of all parameters. Each shard sends mu_s and q_s
forward, and a_s and b_s back.

Cache: batch norm's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from threading import Barrier, BrokenBarrierError
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Channels, Layer, NonNegative, Probability, bare, made_by, unexpected
from lincoln_fn.distributed.data_parallel.sharded_params import collect_once, is_fully_sharded
from lincoln_fn.distributed.data_parallel.shards import Shards
from lincoln_fn.distributed.group import Group
from lincoln_fn.layers.batch_norm import Cache, Params, advance, init, predict
from lincoln_fn.layers.common import normalisation
from lincoln_fn.layers.common.inputs import check_batch
from lincoln_fn.walk.internal import composition_of

# Collects a tensor of each shard: x of shape (*s) -> (shards, *s).
Gather: TypeAlias = Callable[[Tensor], Tensor]


def forward(
    params: Params, x: Channels, *, gather: Gather, eps: float = 1e-5, momentum: float | None = 0.1
) -> tuple[Channels, Cache]:
    """Compute y = x_hat w + b with x_hat = (x - mean) rstd, by the statistics of all shards."""
    check_batch(params, x, None)
    axes, wide = (0, *range(2, x.ndim)), normalisation.widened(x)
    own = x.shape[0] * x.shape[2:].numel()
    _, mu, biased = normalisation.statistics(wide, axes)
    sent = torch.cat((mu.new_tensor([own]), mu.flatten(), biased.flatten() * own)).double()
    shards = gather(sent)
    m, (mu_s, q_s) = shards[:, :1], shards[:, 1:].chunk(2, dim=1)
    count = m.sum()
    if count <= 1:
        raise unexpected("sync_batch_norm", "more than one value for each channel", int(count))
    mean = (m * mu_s).sum(0) / count
    squares = (q_s + m * (mu_s - mean).square()).sum(0)
    shape = (1, -1, *(1,) * (x.ndim - 2))
    rstd = (squares / count + eps).rsqrt().to(wide.dtype).view(shape)
    x_hat = (wide - mean.to(wide.dtype).view(shape)) * rstd
    y = normalisation.scale_and_shift(x_hat, params.weight, params.bias, x.ndim - 2)
    unbiased = (squares / (count - 1)).to(wide.dtype)
    return y.to(x.dtype), Cache(x_hat.to(x.dtype), rstd, mean.to(wide.dtype), unbiased, momentum)


def backward(
    params: Params, cache: Cache, g: Channels, *, gather: Gather
) -> tuple[Channels, Params]:
    """Compute dx = rstd (dx_hat - sum_s a_s / m - x_hat sum_s b_s / m), and the shard's dw, db."""
    axes, x_hat = (0, *range(2, g.ndim)), normalisation.widened(cache.x_hat)
    dx_hat, dparams = normalisation.affine_backward(params, x_hat, g, (1,))
    a, b = (normalisation.sum_over(d, axes).double() for d in (dx_hat, dx_hat * x_hat))
    m = torch.full_like(a, g.shape[0] * g.shape[2:].numel())
    *sums, count = gather(torch.stack((a, b, m))).sum(0)
    a_mean, b_mean = ((each / count).to(dx_hat.dtype) for each in sums)
    dx = cache.rstd * (dx_hat - a_mean - x_hat * b_mean)
    return dx.to(g.dtype), dparams


@core.constructor
def sync_batch_norm(
    group: Group,
    eps: NonNegative = 1e-5,
    momentum: Probability | None = 0.1,
    affine: bool = True,
    track_running_stats: bool = True,
) -> Layer:
    """Normalise each channel over the examples of all processes: y = (x - mean) rstd w + b.

    It computes what `lf.batch_norm` computes from the whole batch, has the same params, and the
    same `predict`. Each call of `forward` and of `backward` communicates, so all processes must
    make it. Its arguments are the processes and those of `lf.batch_norm`. In a step with
    `reduce=mean(group, shards=...)`, the statistics are taken over its logical shards. Without
    running statistics, `predict` uses those of this process's batch.

    Raises:
        LayerError: from `forward`, if there is only one value for each channel in all processes.

    Source:
        Ioffe and Szegedy, "Batch Normalization", ICML 2015.

    Example:
        >>> layer, x = sync_batch_norm(lf.distributed.alone()), torch.tensor([[1.0], [3.0]])
        >>> layer.forward(layer.init(lf.Key(0), x), x)[0].round(decimals=3).T
        tensor([[-1.,  1.]])
    """
    return bare(
        Layer,
        partial(forward, gather=group.gather),
        partial(backward, gather=group.gather),
        partial(init, bias=True, spatial_axes=None),
        partial(predict, spatial_axes=None),
        advance=advance if track_running_stats else core.unchanged,
    )


def with_gather(layer: Layer, gather: Gather) -> Layer:
    """Make the same layer with another way to collect what the shards send."""
    assert isinstance(layer.forward, partial)
    assert isinstance(layer.backward, partial)
    there, back = (partial(f, gather=gather) for f in (layer.forward, layer.backward))
    return layer.replace(forward=there, backward=back, predict=layer.predict)


T = TypeVar("T")


class Meeting:
    """Where the threads of a process's shards exchange tensors."""

    def __init__(self, group: Group, shards: Shards) -> None:
        self._group = group
        self._own = shards.own
        self._brought: dict[int, Tensor] = {}
        self._compute: Callable[[], Any]  # Any: each meeting computes something else
        self._result: Any  # Any: likewise
        self._barrier = Barrier(len(shards.own), self._act)

    def gather(self, shard: int, x: Tensor) -> Tensor:
        """Give the tensor of a shard, and return those of all shards."""
        self._brought[shard] = x
        everyone: Tensor = self.once(self._exchange)
        return everyone

    def _exchange(self) -> Tensor:
        own = torch.stack([self._brought[shard] for shard in self._own])
        return self._group.gather(own).flatten(0, 1)

    def once(self, compute: Callable[[], T]) -> T:
        """Wait for the other threads; one of them computes the result of all."""
        self._compute = compute
        self._barrier.wait()
        result: T = self._result  # the next one is computed when all threads have come back
        return result

    def _act(self) -> None:
        self._result = self._compute()

    def run(self, threads: Executor, compute: Callable[[int], None], own: Iterable[int]) -> None:
        """Compute all shards at the same time; an error in one ends all."""
        futures = [threads.submit(self._run_shard, compute, shard) for shard in own]
        errors = [error for error in (future.exception() for future in futures) if error]
        self._barrier.reset()
        for error in sorted(errors, key=lambda error: isinstance(error, BrokenBarrierError)):
            raise error

    def _run_shard(self, compute: Callable[[int], None], shard: int) -> None:
        try:
            compute(shard)
        except BaseException:
            self._barrier.abort()
            raise


def is_synchronised(net: Layer) -> bool:
    """Return whether a layer of a network needs the other shards in the middle of a pass."""
    return made_by(net, sync_batch_norm) or any(is_synchronised(part) for part in net.parts)


def communicates(net: Layer) -> bool:
    """Return whether any function of a network sends something: of what is made for a group."""
    is_for_group = net.spec is not None and "group" in net.spec.arguments
    return is_for_group or any(map(communicates, net.parts))


def synchronise(net: Layer, meeting: Meeting, shard: int) -> Layer:
    """Make the network of one shard, whose layers meet those of the other shards."""
    made = composition_of(net)
    if made is None:
        is_sync = made_by(net, sync_batch_norm)
        return with_gather(net, partial(meeting.gather, shard)) if is_sync else net
    parts = tuple(synchronise(part, meeting, shard) for part in made.parts)
    if is_fully_sharded(made):
        return collect_once(net, parts[0], meeting.once)
    return net.rebuild(parts)
