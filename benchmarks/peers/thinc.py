"""Thinc: its own layers, its own loop, matrix products by BLIS or by numpy, whichever is faster.

Thinc has no two-dimensional convolution, no attention and no momentum; the gradient of its LSTM is
not that of its forward, so that a network with one would be refused. It computes the first layer's
dx like any other's.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.peers import AbsentError, Way, Ways
from benchmarks.workloads import Array, Block, Conv, Dense, Lstm, Plain, Workload

try:
    import thinc
    from thinc.api import SGD, Adam, Linear, Model, NumpyOps, Relu, Sigmoid, chain, use_ops
except ModuleNotFoundError as error:
    raise AbsentError(f"Thinc is not installed: {error}") from error

MISSING: dict[type, str] = {
    Conv: "Thinc has no two-dimensional convolution",
    Lstm: "the gradient of Thinc's LSTM is not that of its forward",
    Block: "Thinc has no attention",
}


def ways(workload: Workload, optimizer: str) -> Ways:
    """Give the two kinds of matrix products."""
    for kind, why in MISSING.items():
        if any(isinstance(layer, kind) for layer in workload.layers):
            raise AbsentError(why)
    if optimizer == "momentum":
        raise AbsentError("Thinc has no momentum")
    return [partial(_way, workload, optimizer, use_blis) for use_blis in (True, False)]


def _way(workload: Workload, optimizer: str, use_blis: bool) -> Way:
    ops = NumpyOps(use_blis=use_blis)
    net = _network(workload, ops)
    descent = _optimizer(optimizer)
    batches = itertools.cycle(workload.batches())
    loss = _logistic if workload.classes == 1 else _softmax

    def step() -> float:
        x, target = next(batches)
        logits, backprop = net.begin_update(x)
        value, dlogits = loss(ops, logits, target)
        backprop(dlogits)
        net.finish_update(descent)
        return value

    products = "BLIS" if use_blis else "numpy"
    return Way(step, f"thinc {thinc.__version__}, products by {products}")


def _network(workload: Workload, ops: NumpyOps) -> Model[Any, Any]:
    """Make the network. An activation is a part of the dense layer before it."""
    kinds = {"sigmoid": Sigmoid, "relu": Relu, None: Linear}
    layers = []
    follows = [*workload.layers[1:], None]
    with use_ops("numpy", use_blis=ops.use_blis):
        for layer, after in zip(workload.layers, follows, strict=True):
            if isinstance(layer, Dense):
                name = after.name if isinstance(after, Plain) else None
                layers.append(kinds[name](layer.n_out, layer.n_in))
        net = chain(*layers)
        net.initialize()
    filled = (weights for weights in workload.weights() if weights)
    for part, weights in zip(layers, filled, strict=True):
        part.set_param("W", np.ascontiguousarray(weights["weight"].T))
        part.set_param("b", weights["bias"])
    return net


def _optimizer(name: str) -> Any:
    lr = workloads.LEARNING_RATES[name]
    if name == "sgd":
        return SGD(lr, L2=0.0, grad_clip=0.0, use_averages=False)
    of = workloads.ADAMW
    return Adam(
        lr,
        L2=of["weight_decay"],
        beta1=of["beta1"],
        beta2=of["beta2"],
        eps=of["eps"],
        grad_clip=0.0,
        use_averages=False,
    )


def _softmax(ops: NumpyOps, logits: Array, target: Array) -> tuple[float, Array]:
    p = ops.softmax(logits)
    rows = np.arange(len(p))
    value = -float(np.log(p[rows, target]).mean())
    p[rows, target] -= 1
    p /= len(p)
    return value, p


def _logistic(ops: NumpyOps, logits: Array, target: Array) -> tuple[float, Array]:
    x, y = logits[:, 0], target.astype("f4")
    value = float((np.logaddexp(0, x) - x * y).mean())
    dx = (ops.sigmoid(x) - y) / np.float32(len(x))
    return value, dx[:, None]
