"""Losses, each a value with a forward and a backward: `nll(reduction="sum")`.

Each loss has its own file: derivation, `forward` and `backward` of the values before the reduction,
and last the constructor.
"""

from lincoln_fn.losses.cosine_embedding import cosine_embedding
from lincoln_fn.losses.cross_entropy import cross_entropy
from lincoln_fn.losses.ctc import ctc
from lincoln_fn.losses.dice import dice
from lincoln_fn.losses.distillation import distillation
from lincoln_fn.losses.dpo import dpo
from lincoln_fn.losses.example_weighted import example_weighted
from lincoln_fn.losses.flow_nll import flow_nll
from lincoln_fn.losses.focal import focal
from lincoln_fn.losses.gaussian_nll import gaussian_nll
from lincoln_fn.losses.grpo import grpo
from lincoln_fn.losses.hinge_embedding import hinge_embedding
from lincoln_fn.losses.huber import huber
from lincoln_fn.losses.info_nce import info_nce
from lincoln_fn.losses.kl_div import kl_div
from lincoln_fn.losses.kto import kto
from lincoln_fn.losses.l1 import l1
from lincoln_fn.losses.linear_cross_entropy import linear_cross_entropy
from lincoln_fn.losses.log_loss import log_loss
from lincoln_fn.losses.log_sigmoid_loss import log_sigmoid_loss
from lincoln_fn.losses.loss import Loss, Reduction
from lincoln_fn.losses.margin_ranking import margin_ranking
from lincoln_fn.losses.mse import mse
from lincoln_fn.losses.multi_label_margin import multi_label_margin
from lincoln_fn.losses.multi_label_soft_margin import multi_label_soft_margin
from lincoln_fn.losses.multi_margin import multi_margin
from lincoln_fn.losses.nll import nll
from lincoln_fn.losses.nt_xent import nt_xent
from lincoln_fn.losses.poisson_nll import poisson_nll
from lincoln_fn.losses.ppo_clip import ppo_clip
from lincoln_fn.losses.reinforce import reinforce
from lincoln_fn.losses.router_balance import router_balance
from lincoln_fn.losses.router_z import router_z
from lincoln_fn.losses.sigmoid_cross_entropy import sigmoid_cross_entropy
from lincoln_fn.losses.smooth_l1 import smooth_l1
from lincoln_fn.losses.soft_margin import soft_margin
from lincoln_fn.losses.softmax_cross_entropy import softmax_cross_entropy
from lincoln_fn.losses.through import through
from lincoln_fn.losses.triplet_margin import triplet_margin
from lincoln_fn.losses.vector_quantization import vector_quantization
from lincoln_fn.losses.weighted import weighted

__all__ = [
    "Loss",
    "Reduction",
    "cosine_embedding",
    "cross_entropy",
    "ctc",
    "dice",
    "distillation",
    "dpo",
    "example_weighted",
    "flow_nll",
    "focal",
    "gaussian_nll",
    "grpo",
    "hinge_embedding",
    "huber",
    "info_nce",
    "kl_div",
    "kto",
    "l1",
    "linear_cross_entropy",
    "log_loss",
    "log_sigmoid_loss",
    "margin_ranking",
    "mse",
    "multi_label_margin",
    "multi_label_soft_margin",
    "multi_margin",
    "nll",
    "nt_xent",
    "poisson_nll",
    "ppo_clip",
    "reinforce",
    "router_balance",
    "router_z",
    "sigmoid_cross_entropy",
    "smooth_l1",
    "soft_margin",
    "softmax_cross_entropy",
    "through",
    "triplet_margin",
    "vector_quantization",
    "weighted",
]
