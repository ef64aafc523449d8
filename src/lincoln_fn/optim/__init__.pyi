from lincoln_fn.optim.accumulate import AccumulateState as AccumulateState, accumulate as accumulate
from lincoln_fn.optim.adabelief import AdabeliefState as AdabeliefState, adabelief as adabelief
from lincoln_fn.optim.adadelta import AdadeltaState as AdadeltaState, adadelta as adadelta
from lincoln_fn.optim.adafactor import AdafactorState as AdafactorState, adafactor as adafactor
from lincoln_fn.optim.adagrad import AdagradState as AdagradState, adagrad as adagrad
from lincoln_fn.optim.adam import AdamState as AdamState, adam as adam, adamw as adamw
from lincoln_fn.optim.adamax import AdamaxState as AdamaxState, adamax as adamax
from lincoln_fn.optim.adan import AdanState as AdanState, adan as adan
from lincoln_fn.optim.asgd import AsgdState as AsgdState, asgd as asgd
from lincoln_fn.optim.by_path import by_path as by_path
from lincoln_fn.optim.ema import EmaState as EmaState, ema as ema, ema_params as ema_params
from lincoln_fn.optim.galore import GaloreState as GaloreState, galore as galore
from lincoln_fn.optim.lamb import lamb as lamb
from lincoln_fn.optim.lars import LarsState as LarsState, lars as lars
from lincoln_fn.optim.lbfgs import (
    LbfgsState as LbfgsState, lbfgs as lbfgs, lbfgs_state as lbfgs_state,
)
from lincoln_fn.optim.lion import LionState as LionState, lion as lion
from lincoln_fn.optim.lookahead import LookaheadState as LookaheadState, lookahead as lookahead
from lincoln_fn.optim.muon import MuonState as MuonState, muon as muon
from lincoln_fn.optim.nadam import NadamState as NadamState, nadam as nadam
from lincoln_fn.optim.optimizer import *
from lincoln_fn.optim.prodigy import ProdigyState as ProdigyState, prodigy as prodigy
from lincoln_fn.optim.radam import RadamState as RadamState, radam as radam
from lincoln_fn.optim.reduce_on_plateau import (
    PlateauState as PlateauState, plateau_step as plateau_step,
    reduce_on_plateau as reduce_on_plateau,
)
from lincoln_fn.optim.rmsprop import RmspropState as RmspropState, rmsprop as rmsprop
from lincoln_fn.optim.rprop import RpropState as RpropState, rprop as rprop
from lincoln_fn.optim.sam import SamState as SamState, sam as sam, sam_params as sam_params
from lincoln_fn.optim.schedule_free import (
    ScheduleFreeState as ScheduleFreeState, schedule_free as schedule_free,
    schedule_free_params as schedule_free_params,
)
from lincoln_fn.optim.sgd import SgdState as SgdState, sgd as sgd
from lincoln_fn.optim.shampoo import ShampooState as ShampooState, shampoo as shampoo
from lincoln_fn.optim.sharded import ShardedState as ShardedState, sharded as sharded
from lincoln_fn.optim.soap import SoapState as SoapState, soap as soap
from lincoln_fn.optim.transforms import (
    Transform as Transform, chain as chain, clip_by_global_norm as clip_by_global_norm,
    clip_by_value as clip_by_value, weight_decay as weight_decay,
)
