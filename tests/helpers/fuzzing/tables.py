"""The rows of the tests' tables as trials: each layer, loss and optimizer in each configuration."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import attrs
import torch

import lincoln_fn as lf
from helpers.cases import CASES
from helpers.losses import TABLE as LOSSES
from helpers.losses import to
from helpers.optimizers import RICH, matrices, parameters
from helpers.optimizers import TABLE as OPTIMIZERS


@attrs.frozen(eq=False)
class Row:
    """A network, a loss, an optimizer and a batch, by name."""

    name: str
    net: lf.Layer
    loss: lf.Loss
    optimizer: lf.Optimizer
    x: Any
    target: Any = None


def energy() -> lf.Loss:
    """Give the mean squares of whatever a layer returns, summed, as a loss."""

    def values(z, target):
        leaves = [leaf for leaf in lf.tree.leaves(z) if leaf.is_floating_point()]
        return sum(leaf.pow(2).mean() for leaf in leaves), z

    def backward(z, g=1.0):
        def slope(leaf):
            return 2 * g * leaf / leaf.numel() if leaf.is_floating_point() else None

        return lf.tree.map(slope, z)

    return lf.Loss("energy()", values, backward)


def scaled(layer: lf.Layer) -> lf.Layer:
    """Put a parameter before a layer that multiplies its input, and so asks for its dx."""

    def floats(arrays):
        return [leaf for leaf in lf.tree.leaves(arrays) if leaf.is_floating_point()]

    def forward(p, x):
        return lf.tree.map(lambda leaf: p * leaf if leaf.is_floating_point() else leaf, x), x

    def backward(p, x, g):
        pairs = zip(floats(x), floats(g), strict=True)
        return None, sum(((leaf * dy).sum() for leaf, dy in pairs), torch.zeros_like(p))

    first = lf.Layer("scaled()", forward, backward, lambda key, x: torch.tensor(1.1))
    return lf.serial(first, layer)


def given(params: Any) -> lf.Layer:
    """Make a layer whose y is its params, which begin as these."""
    return lf.Layer(
        "given()",
        lambda params, x: (params, ()),
        lambda params, cache, g: (None, g),
        lambda key, x: params,
    )


@cache
def rows() -> tuple[Row, ...]:
    """List all rows."""
    return tuple(made())


def made() -> Iterator[Row]:
    nothing = torch.zeros(1)
    for case in CASES:
        yield Row(str(case), scaled(case.layer), energy(), lf.optim.sgd(0.05), case.x)
    for row in LOSSES:
        prediction, target = to(torch.float32, (row.prediction, row.target))
        net = given(prediction)
        yield Row(str(row), net, row.loss("mean"), lf.optim.sgd(0.01), nothing, target)
    optimizers = [(f"{make.__name__}({of})", make(**of)) for make, _, of in OPTIMIZERS]
    optimizers += [(str(optimizer), optimizer) for optimizer in RICH]
    for name, optimizer in optimizers:
        yield Row(name, given(parameters(torch.float32)), energy(), optimizer, nothing)
    muon = given(tuple(matrices(torch.float32)))
    yield Row("muon()", muon, energy(), lf.optim.muon(), nothing)
