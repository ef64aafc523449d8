"""Losses, each a value with a forward and a backward: `nll(reduction="sum")`."""

from lincoln_fn.losses.binary import log_loss, log_sigmoid_loss, sigmoid_cross_entropy
from lincoln_fn.losses.categorical import cross_entropy, nll, softmax_cross_entropy
from lincoln_fn.losses.ctc import ctc
from lincoln_fn.losses.distribution import gaussian_nll, kl_div, poisson_nll
from lincoln_fn.losses.embedding import cosine_embedding, triplet_margin
from lincoln_fn.losses.loss import Loss, Reduction
from lincoln_fn.losses.margin import hinge_embedding, margin_ranking, soft_margin
from lincoln_fn.losses.multiclass import (
    multi_label_margin,
    multi_label_soft_margin,
    multi_margin,
)
from lincoln_fn.losses.regression import huber, l1, mse, smooth_l1

__all__ = [
    "Loss",
    "Reduction",
    "cosine_embedding",
    "cross_entropy",
    "ctc",
    "gaussian_nll",
    "hinge_embedding",
    "huber",
    "kl_div",
    "l1",
    "log_loss",
    "log_sigmoid_loss",
    "margin_ranking",
    "mse",
    "multi_label_margin",
    "multi_label_soft_margin",
    "multi_margin",
    "nll",
    "poisson_nll",
    "sigmoid_cross_entropy",
    "smooth_l1",
    "soft_margin",
    "softmax_cross_entropy",
    "triplet_margin",
]
