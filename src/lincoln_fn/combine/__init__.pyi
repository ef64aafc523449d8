from lincoln_fn.combine._wiring import Wiring as Wiring, in_turn as in_turn, wired as wired
from lincoln_fn.combine import gated_feed_forward as gated_feed_forward
from lincoln_fn.combine.branch import *
from lincoln_fn.combine.mamba import PATHS as PATHS, causal_conv1d as causal_conv1d, mamba as mamba
from lincoln_fn.combine.reversible import checkpointed as checkpointed, reversible as reversible
from lincoln_fn.combine.context import (
    Context as Context, complete as complete, select as select, with_context as with_context,
)
from lincoln_fn.combine.coupling import coupling as coupling, inverse as inverse
from lincoln_fn.combine.fixed_point import fixed_point as fixed_point
from lincoln_fn.combine.frozen import (
    FrozenParams as FrozenParams, constant as constant, frozen as frozen,
)
from lincoln_fn.combine.gated_feed_forward import geglu as geglu, swiglu as swiglu
from lincoln_fn.combine._torch_names import ALIASES as ALIASES
from lincoln_fn.combine.graph import (
    gradients_by_name as gradients_by_name, graph as graph, plan_of as plan_of,
)
from lincoln_fn.combine.in_dtype import in_dtype as in_dtype
from lincoln_fn.combine.inference import inference as inference
from lincoln_fn.combine.masked import masked as masked
from lincoln_fn.combine.mixture_of_experts import (
    Params as Params, Routing as Routing, Tokens as Tokens, check_g as check_g,
    check_outputs as check_outputs, mixture_of_experts as mixture_of_experts, route as route,
    scores_back as scores_back,
)
from lincoln_fn.combine.ode import Times as Times, ode as ode
from lincoln_fn.combine.scan import scan as scan
from lincoln_fn.combine.serial import (
    is_serial as is_serial, needs_dx as needs_dx, repeat as repeat, serial as serial,
)
from lincoln_fn.combine.shared import shared as shared
from lincoln_fn.combine.tapped import tapped as tapped
from lincoln_fn.combine.tied import scores as scores, tied as tied
from lincoln_fn.combine.transformer import *
