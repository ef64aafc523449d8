"""torch.compile, tuned: forward and loss as one graph, with a fused or a compiled optimizer.

For images channels-last is tried too, for other networks Inductor's wrapper in C++, which can be
faster than the one in Python.
"""

from __future__ import annotations

import itertools
import warnings
from functools import partial
from typing import NamedTuple

import torch
import torch._inductor.config
from torch import Tensor

from benchmarks.peers import Way, Ways, _torch
from benchmarks.workloads import Workload


class Choice(NamedTuple):
    """What is tried."""

    compiled_optimizer: bool
    cpp_wrapper: bool
    channels_last: bool

    def __str__(self) -> str:
        names = ("optimizer compiled too", "C++ wrapper", "channels-last")
        return "".join(f", {name}" for name, chosen in zip(names, self, strict=True) if chosen)


def ways(workload: Workload, optimizer: str) -> Ways:
    """Give the choices that make sense."""
    both = (False, True)
    if _torch.has_images(workload):  # where the kernels' own time counts, not their wrapper's
        choices = [Choice(first, False, last) for first in both for last in both]
    else:
        choices = [Choice(first, wrapper, False) for first in both for wrapper in both]
    return [partial(_way, workload, optimizer, choice) for choice in choices]


def _way(workload: Workload, optimizer: str, choice: Choice) -> Way:
    torch._dynamo.reset()
    # So that the time of compiling is what it is, although another way has compiled the like.
    torch._inductor.config.force_disable_caches = True
    warnings.filterwarnings("ignore", "dynamo_pgo force disabled")
    net, loss = _torch.module(workload), _torch.loss(workload)
    pairs = _torch.batches(workload)
    if choice.channels_last:
        net.to(memory_format=torch.channels_last)
        pairs = [(x.to(memory_format=torch.channels_last), target) for x, target in pairs]
    options = {"cpp_wrapper": True} if choice.cpp_wrapper else None

    def loss_of(x: Tensor, target: Tensor) -> Tensor:
        return loss(net(x), target)

    compiled_loss = torch.compile(loss_of, options=options)
    if choice.compiled_optimizer:
        descent = _torch.optimizer(optimizer, net.parameters(), foreach=True)
        descend = torch.compile(descent.step)
    else:
        descent = _torch.optimizer(optimizer, net.parameters(), fused=True)
        descend = descent.step
    batches = itertools.cycle(pairs)

    def step() -> float:
        x, target = next(batches)
        descent.zero_grad(set_to_none=True)
        value = compiled_loss(x, target)
        value.backward()
        descend()
        return value.item()

    return Way(step, f"torch {torch.__version__}{choice}")
