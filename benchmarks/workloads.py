"""The workloads as data: networks, sizes, initial weights and batches, the same for every peer.

A network is a list of layers' descriptions, from which each peer builds its own in the same order.
Weights and batches are numpy arrays, drawn from one seed. Weights have the library's layouts: a
matrix is applied from the right, (n_in, n_out), and a convolution's is (out, in, height, width).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # Any: floats or class indices
Weights: TypeAlias = dict[str, Array]
Batch: TypeAlias = tuple[Array, Array]

SEED = 20
BATCHES = 8  # how many different ones are taken in turn


@attrs.frozen
class Dense:
    """y = x W + b on the last axis."""

    n_in: int
    n_out: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of each parameter."""
        return {"weight": (self.n_in, self.n_out), "bias": (self.n_out,)}


@attrs.frozen
class Conv:
    """A convolution whose output is as large as its input; the kernel size is odd."""

    n_in: int
    n_out: int
    kernel: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of each parameter."""
        return {
            "weight": (self.n_out, self.n_in, self.kernel, self.kernel),
            "bias": (self.n_out,),
        }


@attrs.frozen
class Embedding:
    """A row of a table for each code."""

    entries: int
    width: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of each parameter."""
        return {"weight": (self.entries, self.width)}


@attrs.frozen
class Positions:
    """Learned positions, which are added."""

    length: int
    width: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of each parameter."""
        return {"weight": (self.length, self.width)}


@attrs.frozen
class Lstm:
    """Long short-term memory with the gates i, f, g, o, from a state of zeros."""

    n_in: int
    hidden: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of each parameter."""
        gates = 4 * self.hidden
        return {
            "weight_ih": (self.n_in, gates),
            "weight_hh": (self.hidden, gates),
            "bias_ih": (gates,),
            "bias_hh": (gates,),
        }


@attrs.frozen
class LayerNorm:
    """Layer normalisation of the last axis, eps 1e-5."""

    width: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of each parameter."""
        return {"weight": (self.width,), "bias": (self.width,)}


@attrs.frozen
class Block:
    """A transformer's pre-norm block: causal self-attention, then two dense layers with a gelu.

    Queries, keys and values come from one matrix, side by side in this order.
    """

    width: int
    heads: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of each parameter."""
        width = self.width
        parts = {
            "norm1": LayerNorm(width),
            "qkv": Dense(width, 3 * width),
            "proj": Dense(width, width),
            "norm2": LayerNorm(width),
            "up": Dense(width, 4 * width),
            "down": Dense(4 * width, width),
        }
        return {
            f"{part}.{name}": shape
            for part, layer in parts.items()
            for name, shape in layer.shapes().items()
        }


@attrs.frozen
class Plain:
    """A layer without parameters: "sigmoid", "relu", "flatten" or "max_pool" (2 by 2)."""

    name: str

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of each parameter: there is none."""
        return {}


Spec: TypeAlias = Dense | Conv | Embedding | Positions | Lstm | LayerNorm | Block | Plain


@attrs.frozen
class Workload:
    """A network with its loss, a mean over the batch, and the shape of its batches.

    The network ends in logits. With one logit an example, the loss is the logistic one, else the
    cross-entropy of softmax; where the input is codes, each place has a target. The gain scales the
    initial weights of dense layers.
    """

    name: str
    layers: tuple[Spec, ...]
    batch: int
    input_shape: tuple[int, ...]
    distinct: int = BATCHES
    gain: float = 1.0

    @property
    def codes(self) -> bool:
        """Whether the input is a sequence of codes."""
        return isinstance(self.layers[0], Embedding)

    @property
    def classes(self) -> int:
        """The number of logits: the outputs of the last layer, which is dense."""
        last = self.layers[-1]
        assert isinstance(last, Dense)
        return last.n_out

    def weights(self) -> list[Weights]:
        """Draw the initial weights, a dictionary for each layer."""
        random = np.random.default_rng(SEED)
        return [
            {
                name: _drawn(random, layer, name, shape, self.gain)
                for name, shape in layer.shapes().items()
            }
            for layer in self.layers
        ]

    def batches(self) -> list[Batch]:
        """Draw the batches (x, target); targets are class indices."""
        random = np.random.default_rng(SEED + 1)
        return [self._batch(random) for _ in range(self.distinct)]

    def _batch(self, random: np.random.Generator) -> Batch:
        shape = (self.batch, *self.input_shape)
        if self.codes:
            codes = random.integers(self.classes, size=(self.batch, self.input_shape[0] + 1))
            return codes[:, :-1].copy(), codes[:, 1:].copy()
        x = random.standard_normal(shape, dtype=np.float32)
        return x, random.integers(max(self.classes, 2), size=self.batch)


def _drawn(
    random: np.random.Generator, layer: Spec, name: str, shape: tuple[int, ...], gain: float
) -> Array:
    if "norm" in name or isinstance(layer, LayerNorm):
        return np.full(shape, 1.0 if name.endswith("weight") else 0.0, np.float32)
    if isinstance(layer, Embedding | Positions):
        return random.normal(0, 0.02 if isinstance(layer, Positions) else 1.0, shape).astype("f4")
    if isinstance(layer, Lstm):
        fan_in = layer.hidden
    else:
        fan_in = math.prod(shape[1:]) if isinstance(layer, Conv) else shape[0]
    bound = 1 / math.sqrt(fan_in)
    if isinstance(layer, Dense) and name == "weight":
        bound *= gain
    return random.uniform(-bound, bound, shape).astype("f4")


def dense_network(name: str, sizes: tuple[int, ...], batch: int, activation: str) -> Workload:
    """Describe dense layers with an activation between each two."""
    layers: list[Spec] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, n_out), Plain(activation)]
    return Workload(name, tuple(layers[:-1]), batch, sizes[:1])


def lenet(name: str, batch: int, channels: tuple[int, int], hidden: int, size: int) -> Workload:
    """Describe two convolutions with ReLU and max-pooling, and two dense layers."""
    first, second = channels
    layers = (
        Conv(1, first, 5),
        Plain("relu"),
        Plain("max_pool"),
        Conv(first, second, 5),
        Plain("relu"),
        Plain("max_pool"),
        Plain("flatten"),
        Dense(second * (size // 4) ** 2, hidden),
        Plain("relu"),
        Dense(hidden, 10),
    )
    return Workload(name, layers, batch, (1, size, size))


def char_lstm(
    name: str, batch: int, length: int, hidden: int, *, width: int = 32, entries: int = 96
) -> Workload:
    """Describe a long short-term memory over characters."""
    layers = (Embedding(entries, width), Lstm(width, hidden), Dense(hidden, entries))
    return Workload(name, layers, batch, (length,))


def gpt(
    name: str, batch: int, length: int, width: int, depth: int, heads: int, *, entries: int = 96
) -> Workload:
    """Describe a transformer that predicts the next character."""
    blocks = (Block(width, heads),) * depth
    ends = (LayerNorm(width), Dense(width, entries))
    layers = (Embedding(entries, width), Positions(length, width), *blocks, *ends)
    return Workload(name, layers, batch, (length,))


WORKLOADS = {
    workload.name: workload
    for workload in (
        dense_network("logistic", (30, 10, 1), 128, "sigmoid"),
        dense_network("mlp-small", (784, 64, 10), 32, "sigmoid"),
        dense_network("mlp", (784, 500, 10), 128, "sigmoid"),
        dense_network("mlp-wide", (1024, 4096, 4096, 10), 256, "relu"),
        lenet("lenet-128", 128, (16, 32), 128, 28),
        lenet("lenet-8", 8, (16, 32), 128, 28),
        char_lstm("char-lstm", 32, 64, 256),
        gpt("gpt-pico", 4, 32, 32, 2, 4),
        gpt("gpt-nano", 16, 64, 128, 4, 4),
    )
}

# The same for every workload and every peer: torch's other defaults hold.
LEARNING_RATES = {"sgd": 0.1, "momentum": 0.02, "adamw": 0.0003}
MOMENTUM = 0.9
ADAMW = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}
