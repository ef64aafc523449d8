"""Print how long a step of each of the notebook's networks takes, beside torch's eager autograd.

Both take the same step from the same parameters on the same batch, in turn, in one process: torch
with its fused SGD and with gradients set to None, which is its fastest eager way. The figure to
quote is the ratio; absolute times are the machine's.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

import lincoln_fn as lf


def dense_pair(sizes: tuple[int, int, int], last: str) -> tuple[lf.Layer, nn.Sequential]:
    """Make a network of two dense layers twice: ours and torch's."""
    n_in, n_hidden, n_out = sizes
    ours, theirs = {
        "log_sigmoid": (lf.log_sigmoid(), nn.LogSigmoid()),
        "log_softmax": (lf.log_softmax(), nn.LogSoftmax(dim=-1)),
        "softmax": (lf.softmax(), nn.Softmax(dim=-1)),
    }[last]
    net = lf.serial(lf.dense(n_hidden), lf.sigmoid(), lf.dense(n_out), ours)
    module = nn.Sequential(
        nn.Linear(n_in, n_hidden), nn.Sigmoid(), nn.Linear(n_hidden, n_out), theirs
    )
    return net, module


def log_sigmoid_loss(z: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute the notebook's loss on log-probabilities in torch operations."""
    y = target.unsqueeze(1).to(z.dtype)
    return torch.sum(-y * z - (1 - y) * torch.log(-torch.expm1(z)))


def cross_entropy(p: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute the notebook's loss on probabilities in torch operations."""
    return -torch.log(p.gather(1, target.unsqueeze(1))).sum()


def nll(z: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute the notebook's loss on log-probabilities of classes in torch operations."""
    return nn.functional.nll_loss(z, target, reduction="sum")


WORKLOADS = {
    "breast cancer 30-10-1": (
        (30, 10, 1),
        "log_sigmoid",
        lf.losses.log_sigmoid_loss,
        log_sigmoid_loss,
    ),
    "MNIST softmax 784-500-10": ((784, 500, 10), "softmax", lf.losses.cross_entropy, cross_entropy),
    "MNIST log_softmax 784-500-10": ((784, 500, 10), "log_softmax", lf.losses.nll, nll),
}


def steppers(
    name: str, lr: float = 1e-4, batch: int = 128
) -> tuple[Callable[[], float], Callable[[], float]]:
    """Make two functions that each take one step and return its loss, ours and torch's."""
    sizes, last, our_loss, their_loss = WORKLOADS[name]
    net, module = dense_pair(sizes, last)
    x = lf.keys.normal(lf.Key(0), (batch, sizes[0]))
    target = (lf.keys.uniform(lf.Key(1), (batch,)) * max(sizes[2], 2)).long()
    optimizer = lf.optim.sgd(lr)
    step = lf.make_step(net, our_loss(reduction="sum"), optimizer)
    state = lf.init_state(net, optimizer, lf.Key(2), x)
    with torch.no_grad():
        for ours, linear in ((state.params[0], module[0]), (state.params[2], module[2])):
            linear.weight.copy_(ours.weight.mT)
            linear.bias.copy_(ours.bias)
    their_optimizer = torch.optim.SGD(module.parameters(), lr=lr, fused=True)

    def our_step() -> float:
        nonlocal state
        state, value = step(state, (x, target))
        return value.item()

    def their_step() -> float:
        their_optimizer.zero_grad(set_to_none=True)
        value = their_loss(module(x), target)
        value.backward()
        their_optimizer.step()
        return value.item()

    return our_step, their_step


def measure(name: str, rounds: int, steps: int) -> tuple[list[float], list[float]]:
    """Time rounds of steps in turn; return seconds a step, a figure a round."""
    pair = steppers(name)
    for _ in range(20):
        ours, theirs = (take() for take in pair)
        if abs(ours - theirs) > 1e-3 * abs(theirs):
            raise SystemExit(f"{name}: the losses differ, {ours} and {theirs}: no fair comparison")
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for take, into in zip(pair, times, strict=True):
            began = time.perf_counter()
            for _ in range(steps):
                take()
            into.append((time.perf_counter() - began) / steps)
    return times


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks --notebook", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds in turn (default 15)")
    parser.add_argument("--steps", type=int, default=200, help="steps a round (default 200)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    where = f"torch {torch.__version__}, {platform.machine()}, {options.threads} threads"
    print(f"{where}, float32, batch 128")
    print(f"{'network':32}{'ours':>10}{'torch':>10}{'ratio':>8}{'spread':>14}")
    for name in WORKLOADS:
        ours, theirs = measure(name, options.rounds, options.steps)
        ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
        micro = [statistics.median(times) * 1e6 for times in (ours, theirs)]
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        middle = statistics.median(ratios)
        print(f"{name:32}{micro[0]:7.0f} us{micro[1]:7.0f} us{middle:8.2f}{spread:>14}", flush=True)
