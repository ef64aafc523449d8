"""Optimizers, as values: `adamw(1e-3)`.

Each optimizer has its own file. `transforms` changes the gradients before an optimizer gets them,
and `by_path` gives the parts of a network to several optimizers.
"""

from lincoln_fn.optim.accumulate import AccumulateState, accumulate
from lincoln_fn.optim.adadelta import AdadeltaState, adadelta
from lincoln_fn.optim.adafactor import AdafactorState, adafactor
from lincoln_fn.optim.adagrad import AdagradState, adagrad
from lincoln_fn.optim.adam import AdamState, adam, adamw
from lincoln_fn.optim.adamax import AdamaxState, adamax
from lincoln_fn.optim.asgd import AsgdState, asgd
from lincoln_fn.optim.by_path import by_path
from lincoln_fn.optim.ema import EmaState, ema, ema_params
from lincoln_fn.optim.galore import GaloreState, galore
from lincoln_fn.optim.lamb import lamb
from lincoln_fn.optim.lbfgs import LbfgsState, lbfgs, lbfgs_state
from lincoln_fn.optim.lion import LionState, lion
from lincoln_fn.optim.muon import MuonState, muon
from lincoln_fn.optim.nadam import NadamState, nadam
from lincoln_fn.optim.optimizer import (
    Adjoint,
    Adjoints,
    LearningRate,
    Optimizer,
    OptimizerState,
)
from lincoln_fn.optim.radam import RadamState, radam
from lincoln_fn.optim.rmsprop import RmspropState, rmsprop
from lincoln_fn.optim.rprop import RpropState, rprop
from lincoln_fn.optim.schedule_free import (
    ScheduleFreeState,
    schedule_free,
    schedule_free_params,
)
from lincoln_fn.optim.sgd import SgdState, sgd
from lincoln_fn.optim.shampoo import ShampooState, shampoo
from lincoln_fn.optim.sharded import ShardedState, sharded
from lincoln_fn.optim.soap import SoapState, soap
from lincoln_fn.optim.transforms import (
    Transform,
    chain,
    clip_by_global_norm,
    clip_by_value,
    weight_decay,
)

__all__ = [
    "AccumulateState",
    "AdadeltaState",
    "AdafactorState",
    "AdagradState",
    "AdamState",
    "AdamaxState",
    "Adjoint",
    "Adjoints",
    "AsgdState",
    "EmaState",
    "GaloreState",
    "LbfgsState",
    "LearningRate",
    "LionState",
    "MuonState",
    "NadamState",
    "Optimizer",
    "OptimizerState",
    "RadamState",
    "RmspropState",
    "RpropState",
    "ScheduleFreeState",
    "SgdState",
    "ShampooState",
    "ShardedState",
    "SoapState",
    "Transform",
    "accumulate",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "asgd",
    "by_path",
    "chain",
    "clip_by_global_norm",
    "clip_by_value",
    "ema",
    "ema_params",
    "galore",
    "lamb",
    "lbfgs",
    "lbfgs_state",
    "lion",
    "muon",
    "nadam",
    "radam",
    "rmsprop",
    "rprop",
    "schedule_free",
    "schedule_free_params",
    "sgd",
    "shampoo",
    "sharded",
    "soap",
    "weight_decay",
]
