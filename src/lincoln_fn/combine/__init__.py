"""Layers made of layers.

Each combinator returns a `Layer` with all seven functions. Its parameters, caches and gradients are
made of those of its parts. An error in a part names its position: "serial[2] dense(10): ...".
"""

from lincoln_fn.combine.branch import branch as branch
from lincoln_fn.combine.branch import residual as residual
from lincoln_fn.combine.causal_conv1d import causal_conv1d as causal_conv1d
from lincoln_fn.combine.checkpointed import checkpointed as checkpointed
from lincoln_fn.combine.constant import constant as constant
from lincoln_fn.combine.context import select as select
from lincoln_fn.combine.context import with_context as with_context
from lincoln_fn.combine.coupling import coupling as coupling
from lincoln_fn.combine.fixed_point import fixed_point as fixed_point
from lincoln_fn.combine.frozen import frozen as frozen
from lincoln_fn.combine.gated_feed_forward import geglu as geglu
from lincoln_fn.combine.gated_feed_forward import swiglu as swiglu
from lincoln_fn.combine.gradients_by_name import gradients_by_name as gradients_by_name
from lincoln_fn.combine.graph import graph as graph
from lincoln_fn.combine.in_dtype import in_dtype as in_dtype
from lincoln_fn.combine.inference import inference as inference
from lincoln_fn.combine.inverse import inverse as inverse
from lincoln_fn.combine.mamba import mamba as mamba
from lincoln_fn.combine.masked import masked as masked
from lincoln_fn.combine.mixture_of_experts import mixture_of_experts as mixture_of_experts
from lincoln_fn.combine.ode import ode as ode
from lincoln_fn.combine.parallel import parallel as parallel
from lincoln_fn.combine.reversible import reversible as reversible
from lincoln_fn.combine.scan import scan as scan
from lincoln_fn.combine.serial import repeat as repeat
from lincoln_fn.combine.serial import serial as serial
from lincoln_fn.combine.shared import shared as shared
from lincoln_fn.combine.tapped import tapped as tapped
from lincoln_fn.combine.tied import tied as tied
from lincoln_fn.combine.transformer import transformer_decoder_block as transformer_decoder_block
from lincoln_fn.combine.transformer import transformer_encoder_block as transformer_encoder_block
from lincoln_fn.core.names import export_all as _export_all

_export_all(globals())
