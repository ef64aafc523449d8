"""Layers made of layers.

Each combinator returns a `Layer` with all seven functions. Its parameters, caches and gradients are
made of those of its parts. An error in a part names its position: "serial[2] dense(10): ...".
"""

from lincoln_fn.combine.branch import branch, residual
from lincoln_fn.combine.causal_conv1d import causal_conv1d
from lincoln_fn.combine.checkpointed import checkpointed
from lincoln_fn.combine.constant import constant
from lincoln_fn.combine.context import select, with_context
from lincoln_fn.combine.coupling import coupling
from lincoln_fn.combine.fixed_point import fixed_point
from lincoln_fn.combine.frozen import frozen
from lincoln_fn.combine.gated_feed_forward import geglu, swiglu
from lincoln_fn.combine.gradients_by_name import gradients_by_name
from lincoln_fn.combine.graph import graph
from lincoln_fn.combine.in_dtype import in_dtype
from lincoln_fn.combine.inference import inference
from lincoln_fn.combine.inverse import inverse
from lincoln_fn.combine.mamba import mamba
from lincoln_fn.combine.masked import masked
from lincoln_fn.combine.mixture_of_experts import mixture_of_experts
from lincoln_fn.combine.ode import ode
from lincoln_fn.combine.parallel import parallel
from lincoln_fn.combine.reversible import reversible
from lincoln_fn.combine.scan import scan
from lincoln_fn.combine.serial import repeat, serial
from lincoln_fn.combine.shared import shared
from lincoln_fn.combine.tapped import tapped
from lincoln_fn.combine.tied import tied
from lincoln_fn.combine.transformer import transformer_decoder_block, transformer_encoder_block

__all__ = [
    "branch",
    "causal_conv1d",
    "checkpointed",
    "constant",
    "coupling",
    "fixed_point",
    "frozen",
    "geglu",
    "gradients_by_name",
    "graph",
    "in_dtype",
    "inference",
    "inverse",
    "mamba",
    "masked",
    "mixture_of_experts",
    "ode",
    "parallel",
    "repeat",
    "residual",
    "reversible",
    "scan",
    "select",
    "serial",
    "shared",
    "swiglu",
    "tapped",
    "tied",
    "transformer_decoder_block",
    "transformer_encoder_block",
    "with_context",
]
