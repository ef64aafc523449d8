"""Optimizers, as values: `adamw(1e-3)`.

Each optimizer has its own file: the rules of one leaf, of which `leafwise` makes it. `transforms`
changes the gradients before an optimizer gets them, and `by_path` gives the parts of a network to
several optimizers.
"""

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.optim.accumulate import AccumulateState as AccumulateState
from lincoln_fn.optim.accumulate import accumulate as accumulate
from lincoln_fn.optim.adadelta import AdadeltaState as AdadeltaState
from lincoln_fn.optim.adadelta import adadelta as adadelta
from lincoln_fn.optim.adafactor import AdafactorState as AdafactorState
from lincoln_fn.optim.adafactor import adafactor as adafactor
from lincoln_fn.optim.adagrad import AdagradState as AdagradState
from lincoln_fn.optim.adagrad import adagrad as adagrad
from lincoln_fn.optim.adam import AdamState as AdamState
from lincoln_fn.optim.adam import adam as adam
from lincoln_fn.optim.adam import adamw as adamw
from lincoln_fn.optim.adamax import AdamaxState as AdamaxState
from lincoln_fn.optim.adamax import adamax as adamax
from lincoln_fn.optim.asgd import AsgdState as AsgdState
from lincoln_fn.optim.asgd import asgd as asgd
from lincoln_fn.optim.by_path import by_path as by_path
from lincoln_fn.optim.ema import EmaState as EmaState
from lincoln_fn.optim.ema import ema as ema
from lincoln_fn.optim.ema import ema_params as ema_params
from lincoln_fn.optim.galore import GaloreState as GaloreState
from lincoln_fn.optim.galore import galore as galore
from lincoln_fn.optim.lamb import lamb as lamb
from lincoln_fn.optim.lbfgs import LbfgsState as LbfgsState
from lincoln_fn.optim.lbfgs import lbfgs as lbfgs
from lincoln_fn.optim.lbfgs import lbfgs_state as lbfgs_state
from lincoln_fn.optim.lion import LionState as LionState
from lincoln_fn.optim.lion import lion as lion
from lincoln_fn.optim.muon import MuonState as MuonState
from lincoln_fn.optim.muon import muon as muon
from lincoln_fn.optim.nadam import NadamState as NadamState
from lincoln_fn.optim.nadam import nadam as nadam
from lincoln_fn.optim.optimizer import Adjoint as Adjoint
from lincoln_fn.optim.optimizer import Adjoints as Adjoints
from lincoln_fn.optim.optimizer import LearningRate as LearningRate
from lincoln_fn.optim.optimizer import Optimizer as Optimizer
from lincoln_fn.optim.optimizer import OptimizerState as OptimizerState
from lincoln_fn.optim.radam import RadamState as RadamState
from lincoln_fn.optim.radam import radam as radam
from lincoln_fn.optim.rmsprop import RmspropState as RmspropState
from lincoln_fn.optim.rmsprop import rmsprop as rmsprop
from lincoln_fn.optim.rprop import RpropState as RpropState
from lincoln_fn.optim.rprop import rprop as rprop
from lincoln_fn.optim.schedule_free import ScheduleFreeState as ScheduleFreeState
from lincoln_fn.optim.schedule_free import schedule_free as schedule_free
from lincoln_fn.optim.schedule_free import schedule_free_params as schedule_free_params
from lincoln_fn.optim.sgd import SgdState as SgdState
from lincoln_fn.optim.sgd import sgd as sgd
from lincoln_fn.optim.shampoo import ShampooState as ShampooState
from lincoln_fn.optim.shampoo import shampoo as shampoo
from lincoln_fn.optim.sharded import ShardedState as ShardedState
from lincoln_fn.optim.sharded import sharded as sharded
from lincoln_fn.optim.soap import SoapState as SoapState
from lincoln_fn.optim.soap import soap as soap
from lincoln_fn.optim.transforms import Transform as Transform
from lincoln_fn.optim.transforms import chain as chain
from lincoln_fn.optim.transforms import clip_by_global_norm as clip_by_global_norm
from lincoln_fn.optim.transforms import clip_by_value as clip_by_value
from lincoln_fn.optim.transforms import weight_decay as weight_decay

_export_all(globals())
