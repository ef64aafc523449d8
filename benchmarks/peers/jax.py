"""JAX: the whole step under jit, the old state donated.

Images have their channels last, as XLA's kernels have them on a CPU, and the first dense layer's
weight is ordered accordingly. Pooling is tried as a window's maximum and as that of reshaped axes,
the scan of the recurrent network with several lengths of unrolled code.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.peers import AbsentError, Way, Ways
from benchmarks.workloads import Array, Conv, Dense, Lstm, Plain, Weights, Workload

try:
    import jax
    from jax import numpy as jnp
except ModuleNotFoundError as error:
    raise AbsentError(f"JAX is not installed: {error}") from error

Params = list[dict[str, Any]]  # Any: JAX's arrays
UNROLLS = (4, 16)


def ways(workload: Workload, optimizer: str) -> Ways:
    """Give the choices that make sense."""
    choices: list[dict[str, Any]] = [{}]
    if Plain("max_pool") in workload.layers:
        choices = [{"reshaped": False}, {"reshaped": True}]
    if any(isinstance(layer, Lstm) for layer in workload.layers):
        choices = [{"unroll": unroll} for unroll in UNROLLS]
    return [partial(_way, workload, optimizer, choice) for choice in choices]


def _way(workload: Workload, optimizer: str, choice: dict[str, Any]) -> Way:
    params = [
        {name: jnp.asarray(weight) for name, weight in weights.items()}
        for weights in _with_channels_last(workload)
    ]
    pairs = [(_channels_last(x), target) for x, target in workload.batches()]
    batches = itertools.cycle([tuple(map(jnp.asarray, pair)) for pair in pairs])
    start, update = OPTIMIZERS[optimizer]

    @partial(jax.jit, donate_argnums=0)
    def train(state: Any, x: Any, target: Any) -> Any:
        params, of_optimizer = state
        value, grads = jax.value_and_grad(_loss)(params, workload, choice, x, target)
        return update(params, grads, of_optimizer), value

    state = (params, start(params))

    def step() -> float:
        nonlocal state
        state, value = train(state, *next(batches))
        return float(value)

    chosen = "".join(f", {name} {value}" for name, value in choice.items())
    return Way(step, f"jax {jax.__version__}, jit, state donated{chosen}")


def _with_channels_last(workload: Workload) -> list[Weights]:
    """Reorder the weights that see images."""
    new = []
    channels = 0
    for layer, weights in zip(workload.layers, workload.weights(), strict=True):
        weight = weights.get("weight")
        if isinstance(layer, Conv) and weight is not None:
            channels = layer.n_out
            weights = {**weights, "weight": weight.transpose(2, 3, 1, 0)}
        elif isinstance(layer, Dense) and weight is not None and channels:
            size = round((layer.n_in / channels) ** 0.5)
            images = weight.reshape(channels, size, size, layer.n_out)
            weights = {**weights, "weight": images.transpose(1, 2, 0, 3).reshape(weight.shape)}
            channels = 0
        new.append(weights)
    return new


def _channels_last(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def _loss(params: Params, workload: Workload, choice: dict[str, Any], x: Any, target: Any) -> Any:
    for p, layer in zip(params, workload.layers, strict=True):
        x = _forward(layer, p, x, choice)
    if workload.classes == 1:
        logits = x[:, 0]
        return jnp.mean(jax.nn.softplus(logits) - logits * target)
    picked = jnp.take_along_axis(x, target[..., None], -1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(x, -1) - picked)


def _forward(layer: workloads.Spec, p: dict[str, Any], x: Any, choice: dict[str, Any]) -> Any:
    match layer:
        case workloads.Dense():
            return x @ p["weight"] + p["bias"]
        case workloads.Conv():
            form = ("NHWC", "HWIO", "NHWC")
            y = jax.lax.conv_general_dilated(x, p["weight"], (1, 1), "SAME", dimension_numbers=form)
            return y + p["bias"]
        case workloads.Embedding():
            return p["weight"][x]
        case workloads.Positions():
            return x + p["weight"]
        case workloads.Lstm(_, hidden):
            return _lstm(p, x, hidden, choice["unroll"])
        case workloads.LayerNorm():
            return _layer_norm(p["weight"], p["bias"], x)
        case workloads.Block(_, heads):
            return _block(p, x, heads)
        case workloads.Plain("max_pool"):
            return _max_pool(x, choice["reshaped"])
        case workloads.Plain("flatten"):
            return x.reshape(len(x), -1)
        case workloads.Plain(name):
            return {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}[name](x)
    raise AssertionError(layer)


def _max_pool(x: Any, reshaped: bool) -> Any:
    if reshaped:
        n, height, width, channels = x.shape
        return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
    window = (1, 2, 2, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


def _lstm(p: dict[str, Any], x: Any, hidden: int, unroll: int) -> Any:
    def cell(state: Any, a: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(a + h @ p["weight_hh"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    inputs = x.swapaxes(0, 1) @ p["weight_ih"] + (p["bias_ih"] + p["bias_hh"])
    zeros = jnp.zeros((len(x), hidden))
    _, outputs = jax.lax.scan(cell, (zeros, zeros), inputs, unroll=unroll)
    return outputs.swapaxes(0, 1)


def _layer_norm(weight: Any, bias: Any, x: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5) * weight + bias


def _block(p: dict[str, Any], x: Any, heads: int) -> Any:
    batch, length, width = x.shape

    def dense(name: str, x: Any) -> Any:
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    def norm(name: str, x: Any) -> Any:
        return _layer_norm(p[f"{name}.weight"], p[f"{name}.bias"], x)

    shape = (batch, length, heads, width // heads)
    q, k, v = (part.reshape(shape) for part in jnp.split(dense("qkv", norm("norm1", x)), 3, -1))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    x = x + dense("proj", y.reshape(x.shape))
    return x + dense("down", jax.nn.gelu(dense("up", norm("norm2", x)), approximate=False))


def _sgd(params: Params, grads: Params, state: Any) -> Any:
    lr = workloads.LEARNING_RATES["sgd"]
    return jax.tree.map(lambda p, dp: p - lr * dp, params, grads), state


def _momentum(params: Params, grads: Params, state: Any) -> Any:
    lr = workloads.LEARNING_RATES["momentum"]
    state = jax.tree.map(lambda b, dp: workloads.MOMENTUM * b + dp, state, grads)
    return jax.tree.map(lambda p, b: p - lr * b, params, state), state


def _adamw(params: Params, grads: Params, state: Any) -> Any:
    lr, of = workloads.LEARNING_RATES["adamw"], workloads.ADAMW
    beta1, beta2 = of["beta1"], of["beta2"]
    count, m, v = state
    count += 1
    m = jax.tree.map(lambda m, dp: beta1 * m + (1 - beta1) * dp, m, grads)
    v = jax.tree.map(lambda v, dp: beta2 * v + (1 - beta2) * dp * dp, v, grads)
    rate, root = lr / (1 - beta1**count), jnp.sqrt(1 - beta2**count)
    keep = 1 - lr * of["weight_decay"]

    def moved(p: Any, m: Any, v: Any) -> Any:
        return p * keep - rate * m / (jnp.sqrt(v) / root + of["eps"])

    return jax.tree.map(moved, params, m, v), (count, m, v)


def _zeros(params: Params) -> Any:
    return jax.tree.map(jnp.zeros_like, params)


# How each optimizer's state starts, and how it takes a step.
OPTIMIZERS: dict[str, tuple[Callable[[Params], Any], Callable[[Params, Params, Any], Any]]] = {
    "sgd": (lambda params: (), _sgd),
    "momentum": (_zeros, _momentum),
    "adamw": (lambda params: (jnp.zeros((), "f4"), _zeros(params), _zeros(params)), _adamw),
}
