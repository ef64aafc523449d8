"""A training step of each case of a layer, each loss and each optimizer of the tables.

A row is (name, network, loss, optimizer, batch).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import optree
import torch

import lincoln_fn as lf
from helpers import CASES, normal, uniform
from helpers.losses import TABLE
from helpers.optimizers import RICH
from helpers.optimizers import TABLE as TABLE_OF_OPTIMIZERS
from lincoln_fn import optim, schedules


def gain() -> lf.Layer:
    """Multiply all inputs by a trained number, in which a step shows dx, too."""

    def forward(s: Any, x: Any) -> Any:
        return lf.tree.map(lambda leaf: leaf * s if leaf.is_floating_point() else leaf, x), x

    def backward(s: Any, x: Any, g: Any) -> Any:
        pairs = zip(*(optree.tree_leaves(each, none_is_leaf=True) for each in (x, g)), strict=True)
        return g, sum(((a * b).sum() for a, b in pairs if b is not None), torch.zeros(()))

    return lf.Layer("gain()", forward, backward, lambda key, x: torch.ones(()))


def pull() -> lf.Loss:
    """Pull every number of y, of whatever shape, towards one of its own."""

    def aims(leaf: torch.Tensor) -> torch.Tensor:
        return leaf - torch.arange(leaf.numel()).reshape(leaf.shape).to(leaf.dtype).cos()

    def forward(y: Any, _: Any) -> Any:
        off = lf.tree.map(lambda leaf: aims(leaf) if leaf.is_floating_point() else leaf, y)
        squares = [d.square().sum() for d in lf.tree.leaves(off) if d.is_floating_point()]
        return sum(squares, torch.zeros(())).float() / 64, off

    def backward(off: Any, g: Any = 1.0) -> Any:
        return lf.tree.map(
            lambda d: g * d / 32 if d.is_floating_point() else torch.zeros_like(d), off
        )

    return lf.Loss("pull()", forward, backward)


def layers() -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Train the layers of the table of cases."""
    for case in CASES:
        net = lf.serial(gain(), case.layer)
        yield f"layer {case}", net, pull(), optim.sgd(0.1), (case.x, None)


X, Y = normal(5, 3), (normal(5, 3) > 0).float()
OTHERS = [  # losses without a row in the table of losses
    (lf.losses.ctc(), normal(5, 4, 3).log_softmax(-1),
        (torch.tensor([[1, 1], [2, 1], [2, 2], [1, 0]]), torch.full((4,), 5),
         torch.tensor([2, 2, 1, 0]))),
    (lf.losses.example_weighted(lf.losses.mse()), X, (Y, uniform(5))),
    (lf.losses.from_layer(lf.graph(lambda y, t: (y - t).exp())), X, Y),
    (lf.losses.log_loss(), X.sigmoid(), Y), (lf.losses.log_sigmoid_loss(), -X.abs(), Y),
    (lf.losses.router_balance(), X, None), (lf.losses.router_z(), X, None),
    (lf.losses.through(lf.tanh(), lf.losses.mse()), X, Y),
    (lf.losses.weighted({"a": (1.0, lf.losses.mse()), "b": (0.5, lf.losses.l1())}), (X, X), (Y, Y)),
]  # fmt: skip


def losses() -> Iterator[tuple[str, Any, Any, Any, Any]]:
    for row in TABLE:
        for reduction in ("mean", "sum"):
            batch = row.prediction, row.target
            yield f"loss {row}-{reduction}", gain(), row.loss(reduction), optim.sgd(0.01), batch
    for loss, prediction, target in OTHERS:
        yield f"loss {loss}", gain(), loss, optim.sgd(0.01), (prediction, target)


def of_matrices(optimizer: Any) -> Any:
    return optim.by_path({"*.bias": optim.sgd(0.1), "*": optimizer})


# Each in each configuration beside torch's, with all that it can keep, and by schedules.
OPTIMIZERS = [
    *(make(**options) for make, _, options in TABLE_OF_OPTIMIZERS), *RICH,
    of_matrices(optim.muon()), of_matrices(optim.muon(dtype=torch.float32)),
    *(optim.chain(transform, optim.sgd(0.1))
        for transform in (optim.clip_by_value(0.1), optim.weight_decay(0.1), optim.accumulate(2))),
    *(optim.sgd(schedule) for schedule in (
            schedules.constant(0.1), schedules.cosine(0.1, 9), schedules.exponential(0.1, 0.5),
            schedules.linear(0.0, 0.1, 2), schedules.polynomial(0.1, 9, 2.0),
            schedules.joined([schedules.constant(0.1), schedules.cosine(0.1, 3)], [1]))),
]  # fmt: skip


def optimizers() -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Train matrices and vectors."""
    net, batch = lf.serial(lf.dense(4), lf.tanh(), lf.dense(2)), (normal(6, 5), normal(6, 2))
    for optimizer in OPTIMIZERS:
        yield f"optimizer {optimizer}", net, lf.losses.mse(), optimizer, batch


SWEEPS = {"layers": layers, "losses": losses, "optimizers": optimizers}
