from lincoln_fn.losses.cosine_embedding import cosine_embedding as cosine_embedding
from lincoln_fn.losses.cross_entropy import cross_entropy as cross_entropy
from lincoln_fn.losses.ctc import ctc as ctc
from lincoln_fn.losses.dice import dice as dice
from lincoln_fn.losses.distillation import distillation as distillation
from lincoln_fn.losses.dpo import dpo as dpo
from lincoln_fn.losses.example_weighted import example_weighted as example_weighted
from lincoln_fn.losses.flow_nll import flow_nll as flow_nll
from lincoln_fn.losses.focal import focal as focal
from lincoln_fn.losses.from_layer import from_layer as from_layer
from lincoln_fn.losses.gaussian_nll import gaussian_nll as gaussian_nll
from lincoln_fn.losses.grpo import grpo as grpo
from lincoln_fn.losses.hinge_embedding import hinge_embedding as hinge_embedding
from lincoln_fn.losses.huber import huber as huber
from lincoln_fn.losses.identity import identity as identity
from lincoln_fn.losses.info_nce import info_nce as info_nce
from lincoln_fn.losses.kl_div import kl_div as kl_div
from lincoln_fn.losses.kto import kto as kto
from lincoln_fn.losses.l1 import l1 as l1
from lincoln_fn.losses.linear_cross_entropy import linear_cross_entropy as linear_cross_entropy
from lincoln_fn.losses.log_loss import log_loss as log_loss
from lincoln_fn.losses.log_sigmoid_loss import log_sigmoid_loss as log_sigmoid_loss
from lincoln_fn.losses.loss import Loss as Loss, Reduction as Reduction
from lincoln_fn.losses.margin_ranking import margin_ranking as margin_ranking
from lincoln_fn.losses.mse import mse as mse
from lincoln_fn.losses.multi_label_margin import multi_label_margin as multi_label_margin
from lincoln_fn.losses.multi_label_soft_margin import (
    multi_label_soft_margin as multi_label_soft_margin,
)
from lincoln_fn.losses.multi_margin import multi_margin as multi_margin
from lincoln_fn.losses.nll import nll as nll
from lincoln_fn.losses.nt_xent import nt_xent as nt_xent
from lincoln_fn.losses.poisson_nll import poisson_nll as poisson_nll
from lincoln_fn.losses.ppo_clip import ppo_clip as ppo_clip
from lincoln_fn.losses.reinforce import reinforce as reinforce
from lincoln_fn.losses.router_balance import router_balance as router_balance
from lincoln_fn.losses.router_z import router_z as router_z
from lincoln_fn.losses.sigmoid_cross_entropy import sigmoid_cross_entropy as sigmoid_cross_entropy
from lincoln_fn.losses.smooth_l1 import smooth_l1 as smooth_l1
from lincoln_fn.losses.soft_margin import soft_margin as soft_margin
from lincoln_fn.losses.softmax_cross_entropy import softmax_cross_entropy as softmax_cross_entropy
from lincoln_fn.losses.through import through as through
from lincoln_fn.losses.triplet_margin import triplet_margin as triplet_margin
from lincoln_fn.losses.vector_quantization import vector_quantization as vector_quantization
from lincoln_fn.losses.weighted import weighted as weighted
