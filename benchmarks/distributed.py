"""A step on two processes beside torch's DistributedDataParallel, and when communication begins.

Both train the 784-4096-4096-10 network from the same weights on the same batches, with SGD, over
gloo on this machine, one thread each. Rounds of steps are taken in turn in the same processes. The
losses of the first steps must agree.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import ClassVar

import torch
from torch import nn
from torch.multiprocessing import spawn
from torch.nn.parallel import DistributedDataParallel

import lincoln_fn as lf
from lincoln_fn import distributed
from lincoln_fn.distributed.data_parallel import passes
from lincoln_fn.distributed.group import Group

SIZES, BATCH, LR = (784, 4096, 4096, 10), 256, 0.01
KINDS = {
    "plain all-reduce": {"deterministic": False},
    "fixed tree": {},
    "fixed tree of 4 shards": {"shards": 4},
}
Step = Callable[[], float]


class Timed(Group):
    """A group that notes when it begins to send a bucket."""

    begun: ClassVar[list[float]] = []

    def exchange(self, x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        """Note the time, and exchange."""
        self.begun.append(time.perf_counter())
        return super().exchange(x, sizes)

    def sum_in_place(self, x: torch.Tensor) -> torch.Tensor:
        """Note the time, and add up."""
        self.begun.append(time.perf_counter())
        return super().sum_in_place(x)


def data(rank: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make this process's part of the batch."""
    x = lf.keys.normal(lf.Key(1), (BATCH, SIZES[0]))
    target = lf.keys.bits(lf.Key(2), (BATCH,)).remainder(10)
    rows = slice(BATCH * rank // size, BATCH * (rank + 1) // size)
    return x[rows], target[rows]


def network() -> lf.Layer:
    """Make the network."""
    layers = [layer for size in SIZES[1:] for layer in (lf.dense(size), lf.relu())]
    return lf.serial(*layers[:-1])


def ours(group: Group, batch: tuple[torch.Tensor, torch.Tensor], **options: object) -> Step:
    """Make a step of ours, which returns the loss."""
    net, optimizer = network(), lf.optim.sgd(LR)
    reduce = distributed.mean(group, **options)  # type: ignore[arg-type]  # options by name
    step = lf.make_step(
        net, lf.losses.softmax_cross_entropy(), optimizer, reduce=reduce, donate=True
    )
    state = lf.init_state(net, optimizer, lf.Key(0), batch[0])

    def take() -> float:
        nonlocal state
        state, value = step(state, batch)
        return value.item()

    return take


def torchs(batch: tuple[torch.Tensor, torch.Tensor]) -> Step:
    """Make a step of DistributedDataParallel, from the same weights."""
    params = lf.init_state(network(), lf.optim.sgd(LR), lf.Key(0), batch[0]).params
    modules: list[nn.Module] = []
    for n_in, n_out, entry in zip(SIZES, SIZES[1:], params[::2], strict=False):
        linear = nn.Linear(n_in, n_out)
        with torch.no_grad():
            linear.weight.copy_(entry.weight.T)
            linear.bias.copy_(entry.bias)
        modules += [linear, nn.ReLU()]
    model = DistributedDataParallel(nn.Sequential(*modules[:-1]))
    optimizer = torch.optim.SGD(model.parameters(), LR)
    loss = nn.CrossEntropyLoss()
    x, target = batch

    def take() -> float:
        optimizer.zero_grad()
        value = loss(model(x), target)
        value.backward()
        optimizer.step()
        return float(value.item())

    return take


def overlap(group: Group, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, float]:
    """Return when the first bucket is sent and when the walk back ends, in ms after its begin."""
    times: list[tuple[float, float]] = []

    def timed(*arguments: object) -> None:
        begin = time.perf_counter()
        post(*arguments)
        times.append((begin, time.perf_counter()))

    post = passes.post_gradients
    passes.post_gradients = timed  # type: ignore[assignment]  # the same function, with a clock
    try:
        step = ours(Timed(group.rank, group.ranks, group.handle, group.heartbeat), batch)
        for _ in range(3):
            Timed.begun.clear()
            step()
    finally:
        passes.post_gradients = post
    begin, end = times[-1]
    return 1e3 * (Timed.begun[0] - begin), 1e3 * (end - begin)


def _run(rank: int, size: int, port: int, rounds: int) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    with distributed.connect() as group:
        batch = data(rank, size)
        peers: dict[str, Callable[[], Step]] = {"torch": partial(torchs, batch)}
        peers |= {name: partial(ours, group, batch, **kind) for name, kind in KINDS.items()}
        steps = {name: make() for name, make in peers.items()}
        first = {name: [step() for _ in range(3)] for name, step in steps.items()}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                group.wait()
                began = time.perf_counter()
                for _ in range(3):
                    step()
                group.wait()
                times[name].append((time.perf_counter() - began) / 3)
        sent, walked = overlap(group, batch)
        if rank == 0:
            _report(first, times, sent, walked)


def _report(
    first: dict[str, list[float]], times: dict[str, list[float]], sent: float, walked: float
) -> None:
    print(f"{'step of 784-4096-4096-10':28}{'ms':>8}{'ratio to torch':>17}{'losses':>24}")
    for name, seconds in times.items():
        ratio = median(a / b for a, b in zip(seconds, times["torch"], strict=True))
        losses = " ".join(f"{loss:.5f}" for loss in first[name])
        label = "DistributedDataParallel" if name == "torch" else name
        print(f"{label:28}{1e3 * median(seconds):8.1f}{ratio:17.2f}{losses:>26}")
    print(f"The walk back takes {walked:.1f} ms; the first bucket is sent after {sent:.1f} ms.")


def main(rounds: int) -> None:
    """Measure and report."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    spawn(_run, args=(2, port, rounds), nprocs=2)
