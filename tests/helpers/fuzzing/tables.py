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
from helpers.sweep import gain, pull


@attrs.frozen(eq=False)
class Row:
    """A network, a loss, an optimizer and a batch, by name."""

    name: str
    net: lf.Layer
    loss: lf.Loss
    optimizer: lf.Optimizer
    x: Any
    target: Any = None


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
        yield Row(str(case), lf.serial(gain(), case.layer), pull(), lf.optim.sgd(0.05), case.x)
    for row in LOSSES:
        prediction, target = to(torch.float32, (row.prediction, row.target))
        net = given(prediction)
        yield Row(str(row), net, row.loss("mean"), lf.optim.sgd(0.01), nothing, target)
    optimizers = [(f"{make.__name__}({of})", make(**of)) for make, _, of in OPTIMIZERS]
    optimizers += [(str(optimizer), optimizer) for optimizer in RICH]
    for name, optimizer in optimizers:
        yield Row(name, given(parameters(torch.float32)), pull(), optimizer, nothing)
    muon = given(tuple(matrices(torch.float32)))
    yield Row("muon()", muon, pull(), lf.optim.muon(), nothing)
