"""Losses, each a value with a forward and a backward: `nll(reduction="sum")`."""

from lincoln_fn.losses.binary import log_loss, log_sigmoid_loss, sigmoid_cross_entropy
from lincoln_fn.losses.categorical import cross_entropy, nll, softmax_cross_entropy
from lincoln_fn.losses.loss import Loss, Reduction

__all__ = [
    "Loss",
    "Reduction",
    "cross_entropy",
    "log_loss",
    "log_sigmoid_loss",
    "nll",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
]
