"""tinygrad: the whole step in its TinyJit, on the CPU."""

from __future__ import annotations

import itertools
import math
import os
from functools import partial
from importlib.metadata import version
from typing import Any

from benchmarks import workloads
from benchmarks.peers import AbsentError, Way, Ways
from benchmarks.workloads import Workload

# Read by tinygrad as it is imported.
os.environ["DEV"] = "CPU"

try:
    from tinygrad import Tensor, TinyJit, nn
    from tinygrad.helpers import Context
except ModuleNotFoundError as error:
    raise AbsentError(f"tinygrad is not installed: {error}") from error

Params = list[dict[str, Any]]  # Any: tinygrad's tensors


def ways(workload: Workload, optimizer: str) -> Ways:
    """Give the one way."""
    try:
        Tensor([1.0]).contiguous().realize()
    except Exception as error:  # tinygrad raises what its search for a compiler ran into
        raise AbsentError(f"tinygrad finds no compiler, install clang: {error}") from error
    return [partial(_way, workload, optimizer)]


def _way(workload: Workload, optimizer: str) -> Way:
    params = [
        {name: Tensor(weight).realize() for name, weight in weights.items()}
        for weights in workload.weights()
    ]
    descent = _optimizer(optimizer, [leaf for layer in params for leaf in layer.values()])
    pairs = [(Tensor(x).realize(), Tensor(target).realize()) for x, target in workload.batches()]
    batches = itertools.cycle(pairs)

    @TinyJit
    def train(x: Tensor, target: Tensor) -> Tensor:
        descent.zero_grad()
        value = _loss(params, workload, x, target)
        value.backward()
        return value.realize(*descent.schedule_step())

    def step() -> float:
        with Context(TRAINING=1):
            return train(*next(batches)).item()

    return Way(step, f"tinygrad {version('tinygrad')}, TinyJit")


def _optimizer(name: str, leaves: list[Tensor]) -> Any:
    lr = workloads.LEARNING_RATES[name]
    if name == "adamw":
        of = workloads.ADAMW
        return nn.optim.AdamW(leaves, lr, of["beta1"], of["beta2"], of["eps"], of["weight_decay"])
    return nn.optim.SGD(leaves, lr, workloads.MOMENTUM if name == "momentum" else 0.0)


def _loss(params: Params, workload: Workload, x: Tensor, target: Tensor) -> Tensor:
    for p, layer in zip(params, workload.layers, strict=True):
        x = _forward(layer, p, x)
    if workload.classes == 1:
        return x[:, 0].binary_crossentropy_logits(target)
    return x.reshape(-1, x.shape[-1]).sparse_categorical_crossentropy(target.flatten())


def _forward(layer: workloads.Spec, p: dict[str, Any], x: Tensor) -> Tensor:
    match layer:
        case workloads.Dense():
            return x.linear(p["weight"], p["bias"])
        case workloads.Conv(_, _, kernel):
            return x.conv2d(p["weight"], p["bias"], padding=kernel // 2)
        case workloads.Embedding():
            return p["weight"][x]
        case workloads.Positions():
            return x + p["weight"]
        case workloads.Lstm(_, hidden):
            return _lstm(p, x, hidden)
        case workloads.LayerNorm():
            return x.layernorm() * p["weight"] + p["bias"]
        case workloads.Block(_, heads):
            return _block(p, x, heads)
        case workloads.Plain("max_pool"):
            return x.max_pool2d((2, 2))
        case workloads.Plain("flatten"):
            return x.flatten(1)
        case workloads.Plain(name):
            return getattr(x, name)()
    raise AssertionError(layer)


def _lstm(p: dict[str, Any], x: Tensor, hidden: int) -> Tensor:
    inputs = x.linear(p["weight_ih"], p["bias_ih"] + p["bias_hh"])
    h = c = Tensor.zeros(x.shape[0], hidden)
    outputs = []
    for t in range(x.shape[1]):
        gates = inputs[:, t] + h.matmul(p["weight_hh"])
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = (o.sigmoid() * c.tanh()).contiguous()
        c = c.contiguous()
        outputs.append(h)
    return Tensor.stack(*outputs, dim=1)


def _block(p: dict[str, Any], x: Tensor, heads: int) -> Tensor:
    batch, length, width = x.shape

    def dense(name: str, x: Tensor) -> Tensor:
        return x.linear(p[f"{name}.weight"], p[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return x.layernorm() * p[f"{name}.weight"] + p[f"{name}.bias"]

    parts = dense("qkv", norm("norm1", x)).chunk(3, dim=-1)
    shape = (batch, length, heads, width // heads)
    q, k, v = (part.reshape(shape).transpose(1, 2) for part in parts)
    y = q.scaled_dot_product_attention(k, v, is_causal=True)
    x = x + dense("proj", y.transpose(1, 2).reshape(batch, length, width))
    return x + dense("down", _gelu(dense("up", norm("norm2", x))))


def _gelu(x: Tensor) -> Tensor:
    """Compute gelu by the error function: tinygrad's own is the one by tanh."""
    return 0.5 * x * (1 + (x / math.sqrt(2)).erf())
