"""torch, eager, tuned: a fused optimizer, gradients set to None, channels-last if it is faster."""

from __future__ import annotations

import itertools
from functools import partial

import torch

from benchmarks.peers import Way, Ways, _torch
from benchmarks.workloads import Workload


def ways(workload: Workload, optimizer: str) -> Ways:
    """Give the orders of the axes in memory that make sense."""
    orders = [False, True] if _torch.has_images(workload) else [False]
    return [partial(_way, workload, optimizer, order) for order in orders]


def _way(workload: Workload, optimizer: str, channels_last: bool) -> Way:
    net, loss = _torch.module(workload), _torch.loss(workload)
    pairs, order = _torch.batches(workload), ""
    if channels_last:
        net.to(memory_format=torch.channels_last)
        pairs = [(x.to(memory_format=torch.channels_last), target) for x, target in pairs]
        order = ", channels-last"
    descent = _torch.optimizer(optimizer, net.parameters(), fused=True)
    batches = itertools.cycle(pairs)

    def step() -> float:
        x, target = next(batches)
        descent.zero_grad(set_to_none=True)
        value = loss(net(x), target)
        value.backward()
        descent.step()
        return value.item()

    return Way(step, f"torch {torch.__version__}, fused {optimizer}{order}")
