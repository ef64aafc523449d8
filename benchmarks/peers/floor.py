"""The floor: only the matrix products and convolutions of a step, into memory that stands ready.

Each product is taken in the faster of two orders of its operands in memory, each convolution in the
faster of contiguous and channels-last. The first layer's input has no gradient, but for codes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.peers import Way, Ways
from benchmarks.workloads import Block, Conv, Dense, Lstm, Plain, Workload

Work = Callable[[], object]


def ways(workload: Workload, optimizer: str) -> Ways:
    """Give the one way; the optimizer has no products."""
    return [partial(_way, workload)]


def _way(workload: Workload) -> Way:
    work = products(workload)

    def step() -> float:
        with torch.no_grad():
            for product in work:
                product()
        return 0.0

    return Way(step, f"torch {torch.__version__}")


def products(workload: Workload) -> list[Work]:
    """List the products and convolutions of a step."""
    rows, size = workload.batch, workload.input_shape[-1]
    length = workload.input_shape[0] if workload.codes else 1
    work: list[Work] = []
    for i, spec in enumerate(workload.layers):
        inner = i > 0
        match spec:
            case Dense(n_in, n_out):
                work += _dense(rows * length, n_in, n_out, inner)
            case Conv(n_in, n_out, kernel):
                work.append(_convolution(rows, n_in, n_out, kernel, size, inner))
            case Plain("max_pool"):
                size //= 2
            case Lstm(n_in, hidden):
                work += _lstm(rows, length, n_in, hidden)
            case Block(width, heads):
                work += _block(rows, length, width, heads)
    return work


def _dense(rows: int, n_in: int, n_out: int, inner: bool) -> list[Work]:
    """List y = x W, dW = x^T g and, where there are layers before, dx = g W^T."""
    work = [_product(rows, n_in, n_out), _product(n_in, rows, n_out)]
    return [*work, _product(rows, n_out, n_in)] if inner else work


def _lstm(rows: int, length: int, n_in: int, hidden: int) -> list[Work]:
    gates = 4 * hidden
    over_time = [_product(rows, hidden, gates)] * length + [_product(rows, gates, hidden)] * length
    recurrent = _product(hidden, rows * length, gates)
    return [*_dense(rows * length, n_in, gates, True), *over_time, recurrent]


def _block(rows: int, length: int, width: int, heads: int) -> list[Work]:
    many, places, features = rows * heads, rows * length, width // heads
    return [
        *_dense(places, width, 3 * width, True),
        *_dense(places, width, width, True),
        *_dense(places, width, 4 * width, True),
        *_dense(places, 4 * width, width, True),
        # Scores and weights' gradients; outputs and the gradients of queries, keys and values.
        *[_product(length, features, length, many)] * 2,
        *[_product(length, length, features, many)] * 4,
    ]


def _product(n: int, k: int, m: int, many: int = 0) -> Work:
    """Make the faster product of an (n, k) and a (k, m) matrix, `many` of them at once."""
    lead = (many,) if many else ()
    times = torch.bmm if many else torch.mm
    out = torch.empty(*lead, n, m)

    def operands(left: bool, right: bool) -> tuple[Tensor, Tensor]:
        a = torch.randn(*lead, k, n).mT if left else torch.randn(*lead, n, k)
        return a, torch.randn(*lead, m, k).mT if right else torch.randn(*lead, k, m)

    orders = [(False, False), (False, True), (True, False), (True, True)]
    return _fastest([partial(times, *operands(*order), out=out) for order in orders])


def _convolution(rows: int, n_in: int, n_out: int, kernel: int, size: int, inner: bool) -> Work:
    """Make the faster convolution with its gradients."""
    half = kernel // 2
    x, weight = torch.randn(rows, n_in, size, size), torch.randn(n_out, n_in, kernel, kernel)
    g = torch.randn(rows, n_out, size, size)

    def work(x: Tensor, weight: Tensor, g: Tensor) -> None:
        torch.conv2d(x, weight, padding=half)
        torch.ops.aten.convolution_backward(
            g, x, weight, None, (1, 1), (half, half), (1, 1), False, (0, 0), 1, (inner, True, False)
        )

    formats = (torch.contiguous_format, torch.channels_last)
    return _fastest(
        [partial(work, *(t.to(memory_format=order) for t in (x, weight, g))) for order in formats]
    )


def _fastest(candidates: Sequence[Work]) -> Work:
    def seconds(work: Work) -> float:
        work()
        times = []
        for _ in range(7):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        return sorted(times)[3]

    return min(candidates, key=seconds)
