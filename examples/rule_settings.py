"""Networks, optimizers and data as in the papers whose figures feedback_alignment.py repeats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

import lincoln_fn as lf
from lincoln_fn import initializers, rules, schedules

CLASSES = 10
MEAN, STD = 0.1307, 0.3081  # of the pixels of the training images
Examples = tuple[Tensor, Tensor]
SOFTMAX, GLOROT = lf.losses.softmax_cross_entropy(), initializers.glorot_uniform()


@dataclass(frozen=True)
class Settings:
    """How a paper trains.

    `net` makes the network for a rule, and `lr` its rate. `optimizer` takes a schedule.
    `milestones` are the shares of all steps after which the rate is multiplied by `decay`;
    `cools` lets it fall to 0 on a line in the second half of them.
    """

    net: Callable[[str], lf.Layer]
    lr: Callable[[str], float]
    optimizer: Callable[[schedules.Schedule], lf.Optimizer]
    batch_size: int
    epochs: int
    milestones: Sequence[float] = ()
    decay: float = 0.1
    cools: bool = False
    loss: lf.Loss = SOFTMAX
    feedback_init: initializers.Initializer = GLOROT
    image: Callable[[Tensor], Tensor] = lambda rows: rows
    jitter: int = 0
    every: int = 1  # test after so many epochs

    def schedule(self, rule: str, steps: int, lr: float | None) -> schedules.Schedule:
        """Make the schedule of a run of so many steps."""
        lr = self.lr(rule) if lr is None else lr
        half = steps // 2
        if self.cools and half:
            falling = schedules.linear(lr, 0.0, steps - half)
            return schedules.joined((schedules.constant(lr), falling), (half,))
        rates = [lr * self.decay**i for i in range(len(self.milestones) + 1)]
        boundaries = list(accumulate(self.milestones, partial(_next, steps), initial=0))[1:]
        return schedules.piecewise(rates, boundaries) if boundaries else schedules.constant(lr)


def _next(steps: int, last: int, share: float) -> int:
    """Return the step at a share of all, which is behind the last such step."""
    return max(last + 1, round(share * steps))


def lenet() -> lf.Layer:
    """Make BioTorch's LeNet for images of 32 by 32: 6, 16 and 120 channels, 84 and 10 units."""
    init = {"weight_init": initializers.glorot_uniform(), "bias_init": initializers.zeros()}
    return lf.serial(
        lf.conv2d(6, 5, **init),
        lf.relu(),
        lf.max_pool2d(2),
        lf.conv2d(16, 5, **init),
        lf.relu(),
        lf.max_pool2d(2),
        lf.conv2d(120, 5, **init),
        lf.relu(),
        lf.flatten(),
        lf.dense(84, **init),
        lf.relu(),
        lf.dense(CLASSES, **init),
    )


def tanh_network(rule: str) -> lf.Layer:
    """Make Nøkland's 2 layers of 800 tanh units with dropout; all weights but bp's begin at 0."""
    init = initializers.fan_in_uniform() if rule == "bp" else initializers.zeros()
    dense = {"weight_init": init, "bias_init": init}
    layers = [lf.dropout(0.1)]
    for _ in range(2):
        layers += [lf.dense(800, **dense), lf.tanh(), lf.dropout(0.5)]
    return lf.serial(*layers, lf.dense(CLASSES, **dense))


def local_network(slope: float, rule: str) -> lf.Layer:
    """Make the perceptron of Nøkland and Eidnes: 3 layers of 1024 units with batch norm.

    A block begins with the dropout of the block before it, so that its head does not see it.
    """

    def block(*before: lf.Layer) -> lf.Layer:
        return lf.serial(*before, lf.dense(1024), lf.batch_norm(), lf.leaky_relu(slope))

    blocks = (block(), *(block(lf.dropout(0.1)) for _ in range(2)))
    init = initializers.fan_in_uniform() if rule == "bp" else initializers.zeros()
    return lf.serial(*blocks, lf.serial(lf.dropout(0.1), lf.dense(CLASSES, weight_init=init)))


def pepita_network(rule: str) -> lf.Layer:
    """Make PEPITA's 1 layer of 1024 ReLU units with dropout, without biases."""
    init = initializers.he_uniform()
    hidden = lf.dense(1024, bias=False, weight_init=init)
    last = lf.dense(CLASSES, bias=False, weight_init=init)
    return lf.serial(hidden, lf.relu(), lf.dropout(0.1), last)


def forward_forward_network(width: int, rule: str) -> lf.Layer:
    """Make Hinton's 4 layers of 2000 ReLU units, whose gradient no unit stops."""
    if rule != "ff":
        return mlp(width, 4)
    init = initializers.normal(1 / math.sqrt(width))
    dense = lf.dense(width, weight_init=init, bias_init=initializers.zeros())
    block = (dense, rules.straight_through(lf.relu()))
    return lf.serial(lf.rms_norm(elementwise_affine=False), *block * 4)


def mlp(width: int, depth: int) -> lf.Layer:
    """Make a perceptron with ReLU."""
    hidden = (lf.dense(width), lf.relu()) * depth
    return lf.serial(*hidden, lf.dense(CLASSES))


def standardised_32(rows: Tensor) -> Tensor:
    """Resize images to 32 by 32."""
    images = rows.view(-1, 1, 28, 28)
    return torch.nn.functional.interpolate(images, (32, 32), mode="bilinear")


def from_zero_to_one(rows: Tensor) -> Tensor:
    """Return to pixels from 0 to 1."""
    return rows * STD + MEAN


def one_hot_loss() -> lf.Loss:
    """Make the sum of ten logistic losses, one for each class."""
    logistic = lf.losses.sigmoid_cross_entropy()

    def forward(prediction: Tensor, target: Tensor) -> tuple[Tensor, object]:
        return logistic.forward(prediction, torch.nn.functional.one_hot(target, CLASSES))

    return lf.Loss("one_hot_loss()", forward, logistic.backward)


def settings_of(paper: str | None, net: str, kind: str, width: int) -> Settings:
    """Return the settings of a paper or, without one, short ones for a network."""
    if paper == "biotorch":
        # The table does not tell the first rate. At these, no loss grows.
        lrs = {"fa": 0.001, "kp": 0.001, "dfa": 0.0003}
        return Settings(
            lambda rule: lenet(),
            lambda rule: lrs.get(rule, 0.01),
            lambda lr: lf.optim.sgd(lr, momentum=0.9, weight_decay=1e-3),
            batch_size=64,
            epochs=100,
            milestones=(0.5, 0.75),
            image=standardised_32,
        )
    if paper == "nokland":
        return Settings(
            tanh_network,
            lambda rule: 1e-4,
            lf.optim.rmsprop,
            batch_size=64,
            epochs=300,
            loss=one_hot_loss(),
            feedback_init=initializers.uniform(-1 / math.sqrt(800), 1 / math.sqrt(800)),
            image=from_zero_to_one,
        )
    if paper == "local":
        slope = 0.0 if kind == "prediction" else 0.01
        return Settings(
            lambda rule: local_network(0.0 if rule == "bp" else slope, rule),
            lambda rule: 5e-4,
            lf.optim.adam,
            batch_size=128,
            epochs=100,
            milestones=(0.5, 0.75, 0.89, 0.94),
            decay=0.25,
            jitter=2,
        )
    if paper == "pepita":
        return Settings(
            pepita_network,
            lambda rule: 0.1,
            lambda lr: lf.optim.sgd(lr, momentum=0.9),
            batch_size=64,
            epochs=100,
            milestones=(0.6, 0.9),
            image=from_zero_to_one,
        )
    if paper == "ff":
        return Settings(
            lambda rule: forward_forward_network(width, rule),
            lambda rule: 1e-3,
            lambda lr: lf.optim.sgd(lr, momentum=0.9, weight_decay=3e-4),
            batch_size=100,
            epochs=60,
            cools=True,
            image=from_zero_to_one,
            every=10,
        )
    return Settings(
        lambda rule: lenet() if net == "lenet" else mlp(500, 2),
        lambda rule: 1e-3,
        lf.optim.adam,
        batch_size=128,
        epochs=5,
        image=standardised_32 if net == "lenet" else lambda rows: rows,
    )


def shifted(key: lf.Key, x: Tensor, by: int) -> Tensor:
    """Shift each image of 784 pixels by up to so many pixels, as a random crop after padding."""
    images = torch.nn.functional.pad(x.view(-1, 28, 28), (by,) * 4, value=-MEAN / STD)
    offsets = (lf.keys.uniform(key, (2, len(x), 1)) * (2 * by + 1)).long()
    rows, columns = offsets + torch.arange(28)
    examples = torch.arange(len(x))[:, None, None]
    return images[examples, rows[:, :, None], columns[:, None, :]].flatten(1)
