"""torch as its tutorials write it."""

from __future__ import annotations

import itertools
from functools import partial

import torch

from benchmarks.peers import Way, Ways, _torch
from benchmarks.workloads import Workload


def ways(workload: Workload, optimizer: str) -> Ways:
    """Give the one way."""
    return [partial(_way, workload, optimizer)]


def _way(workload: Workload, optimizer: str) -> Way:
    net, loss = _torch.module(workload), _torch.loss(workload)
    descent = _torch.optimizer(optimizer, net.parameters())
    batches = itertools.cycle(_torch.batches(workload))

    def step() -> float:
        x, target = next(batches)
        descent.zero_grad()
        value = loss(net(x), target)
        value.backward()
        descent.step()
        return value.item()

    return Way(step, f"torch {torch.__version__}")
