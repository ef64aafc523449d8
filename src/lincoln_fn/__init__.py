"""A pure-functional, stateless deep-learning library on torch tensors, without autograd.

Every layer is a pair of pure functions with gradients written by hand:

    y, cache    = layer.forward(params, x)
    dx, dparams = layer.backward(params, cache, g)
"""

import sys as _sys
from functools import partial as _partial
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import NoReturn as _NoReturn

from lincoln_fn import attribution as attribution
from lincoln_fn import checkpoint as checkpoint
from lincoln_fn import curvature as curvature
from lincoln_fn import distributed as distributed
from lincoln_fn import initializers as initializers
from lincoln_fn import inspect as inspect
from lincoln_fn import interop as interop
from lincoln_fn import layers as layers
from lincoln_fn import losses as losses
from lincoln_fn import notebook as notebook
from lincoln_fn import optim as optim
from lincoln_fn import per_example as per_example
from lincoln_fn import plots as plots
from lincoln_fn import replay as replay
from lincoln_fn import rules as rules
from lincoln_fn import schedules as schedules
from lincoln_fn import streams as streams
from lincoln_fn import testing as testing
from lincoln_fn import walk as walk
from lincoln_fn.combine import branch as branch
from lincoln_fn.combine import causal_conv1d as causal_conv1d
from lincoln_fn.combine import checkpointed as checkpointed
from lincoln_fn.combine import constant as constant
from lincoln_fn.combine import coupling as coupling
from lincoln_fn.combine import fixed_point as fixed_point
from lincoln_fn.combine import frozen as frozen
from lincoln_fn.combine import geglu as geglu
from lincoln_fn.combine import gradients_by_name as gradients_by_name
from lincoln_fn.combine import graph as graph
from lincoln_fn.combine import in_dtype as in_dtype
from lincoln_fn.combine import inference as inference
from lincoln_fn.combine import inverse as inverse
from lincoln_fn.combine import mamba as mamba
from lincoln_fn.combine import masked as masked
from lincoln_fn.combine import mixture_of_experts as mixture_of_experts
from lincoln_fn.combine import ode as ode
from lincoln_fn.combine import parallel as parallel
from lincoln_fn.combine import repeat as repeat
from lincoln_fn.combine import residual as residual
from lincoln_fn.combine import reversible as reversible
from lincoln_fn.combine import scan as scan
from lincoln_fn.combine import select as select
from lincoln_fn.combine import serial as serial
from lincoln_fn.combine import shared as shared
from lincoln_fn.combine import swiglu as swiglu
from lincoln_fn.combine import tapped as tapped
from lincoln_fn.combine import tied as tied
from lincoln_fn.combine import transformer_decoder_block as transformer_decoder_block
from lincoln_fn.combine import transformer_encoder_block as transformer_encoder_block
from lincoln_fn.combine import with_context as with_context
from lincoln_fn.compiler import compile as compile  # noqa: A004  # torch's users expect it
from lincoln_fn.compiler import export as export
from lincoln_fn.compiler import export_step as export_step
from lincoln_fn.core import keys as keys
from lincoln_fn.core import terms as terms
from lincoln_fn.core import tree as tree
from lincoln_fn.core.declaration import declare as declare
from lincoln_fn.core.keys import Key as Key
from lincoln_fn.core.layer import Layer as Layer
from lincoln_fn.core.layer import map_layers as map_layers
from lincoln_fn.core.record import State as State
from lincoln_fn.core.record import evolve as evolve
from lincoln_fn.core.record import record as record
from lincoln_fn.core.record import static as static
from lincoln_fn.decoding import Decoder as Decoder
from lincoln_fn.decoding import DecodeState as DecodeState
from lincoln_fn.decoding import decode as decode
from lincoln_fn.decoding import generate as generate
from lincoln_fn.decoding import samplers as samplers
from lincoln_fn.errors.errors import LayerError as LayerError
from lincoln_fn.errors.errors import NonFiniteError as NonFiniteError
from lincoln_fn.fastpath import fast as fast
from lincoln_fn.finetune import dora as dora
from lincoln_fn.finetune import lora as lora
from lincoln_fn.finetune import merge_lora as merge_lora
from lincoln_fn.finetune import quantize as quantize
from lincoln_fn.inspect.summary import summary as summary
from lincoln_fn.layers.adaptive_avg_pool import adaptive_avg_pool1d as adaptive_avg_pool1d
from lincoln_fn.layers.adaptive_avg_pool import adaptive_avg_pool2d as adaptive_avg_pool2d
from lincoln_fn.layers.adaptive_avg_pool import adaptive_avg_pool3d as adaptive_avg_pool3d
from lincoln_fn.layers.adaptive_max_pool import adaptive_max_pool1d as adaptive_max_pool1d
from lincoln_fn.layers.adaptive_max_pool import adaptive_max_pool2d as adaptive_max_pool2d
from lincoln_fn.layers.adaptive_max_pool import adaptive_max_pool3d as adaptive_max_pool3d
from lincoln_fn.layers.add import add as add
from lincoln_fn.layers.alibi import alibi as alibi
from lincoln_fn.layers.alpha_dropout import alpha_dropout as alpha_dropout
from lincoln_fn.layers.alpha_dropout import feature_alpha_dropout as feature_alpha_dropout
from lincoln_fn.layers.attention_heads import attention_heads as attention_heads
from lincoln_fn.layers.avg_pool import avg_pool1d as avg_pool1d
from lincoln_fn.layers.avg_pool import avg_pool2d as avg_pool2d
from lincoln_fn.layers.avg_pool import avg_pool3d as avg_pool3d
from lincoln_fn.layers.batch_norm import batch_norm as batch_norm
from lincoln_fn.layers.bias import bias as bias
from lincoln_fn.layers.bilinear import bilinear as bilinear
from lincoln_fn.layers.broadcast import broadcast_tensors as broadcast_tensors
from lincoln_fn.layers.broadcast import broadcast_to as broadcast_to
from lincoln_fn.layers.celu import celu as celu
from lincoln_fn.layers.class_token import class_token as class_token
from lincoln_fn.layers.common import rope_scaling as rope_scaling
from lincoln_fn.layers.concatenate import concatenate as concatenate
from lincoln_fn.layers.conv import conv1d as conv1d
from lincoln_fn.layers.conv import conv2d as conv2d
from lincoln_fn.layers.conv import conv3d as conv3d
from lincoln_fn.layers.conv_transpose import conv_transpose1d as conv_transpose1d
from lincoln_fn.layers.conv_transpose import conv_transpose2d as conv_transpose2d
from lincoln_fn.layers.conv_transpose import conv_transpose3d as conv_transpose3d
from lincoln_fn.layers.cosine_similarities import cosine_similarities as cosine_similarities
from lincoln_fn.layers.dense import dense as dense
from lincoln_fn.layers.dilate import dilate as dilate
from lincoln_fn.layers.dropout import dropout as dropout
from lincoln_fn.layers.dropout import dropout1d as dropout1d
from lincoln_fn.layers.dropout import dropout2d as dropout2d
from lincoln_fn.layers.dropout import dropout3d as dropout3d
from lincoln_fn.layers.elementwise import absolute as absolute
from lincoln_fn.layers.elementwise import clamp as clamp
from lincoln_fn.layers.elementwise import cos as cos
from lincoln_fn.layers.elementwise import exp as exp
from lincoln_fn.layers.elementwise import log as log
from lincoln_fn.layers.elementwise import power as power
from lincoln_fn.layers.elementwise import reciprocal as reciprocal
from lincoln_fn.layers.elementwise import shift as shift
from lincoln_fn.layers.elementwise import sin as sin
from lincoln_fn.layers.elementwise import sqrt as sqrt
from lincoln_fn.layers.elu import elu as elu
from lincoln_fn.layers.embedding import embedding as embedding
from lincoln_fn.layers.flatten import flatten as flatten
from lincoln_fn.layers.flip import flip as flip
from lincoln_fn.layers.fractional_max_pool import fractional_max_pool2d as fractional_max_pool2d
from lincoln_fn.layers.fractional_max_pool import fractional_max_pool3d as fractional_max_pool3d
from lincoln_fn.layers.gated_linear_recurrence import (
    gated_linear_recurrence as gated_linear_recurrence,
)
from lincoln_fn.layers.gather import gather as gather
from lincoln_fn.layers.gather import index_select as index_select
from lincoln_fn.layers.gelu import gelu as gelu
from lincoln_fn.layers.global_avg_pool import global_avg_pool as global_avg_pool
from lincoln_fn.layers.glu import glu as glu
from lincoln_fn.layers.graph_attention import graph_attention as graph_attention
from lincoln_fn.layers.graph_conv import graph_conv as graph_conv
from lincoln_fn.layers.group_norm import group_norm as group_norm
from lincoln_fn.layers.grouped_query_attention import (
    grouped_query_attention as grouped_query_attention,
)
from lincoln_fn.layers.gru import gru as gru
from lincoln_fn.layers.hardshrink import hardshrink as hardshrink
from lincoln_fn.layers.hardsigmoid import hardsigmoid as hardsigmoid
from lincoln_fn.layers.hardswish import hardswish as hardswish
from lincoln_fn.layers.hardtanh import hardtanh as hardtanh
from lincoln_fn.layers.identity import identity as identity
from lincoln_fn.layers.instance_norm import instance_norm as instance_norm
from lincoln_fn.layers.last_state import last_state as last_state
from lincoln_fn.layers.layer_norm import layer_norm as layer_norm
from lincoln_fn.layers.leaky_relu import leaky_relu as leaky_relu
from lincoln_fn.layers.linear_attention import linear_attention as linear_attention
from lincoln_fn.layers.linear_head import linear_head as linear_head
from lincoln_fn.layers.linear_scan import linear_scan as linear_scan
from lincoln_fn.layers.local_response_norm import local_response_norm as local_response_norm
from lincoln_fn.layers.log_sigmoid import log_sigmoid as log_sigmoid
from lincoln_fn.layers.log_softmax import log_softmax as log_softmax
from lincoln_fn.layers.logsumexp import logsumexp as logsumexp
from lincoln_fn.layers.lp_pool import lp_pool1d as lp_pool1d
from lincoln_fn.layers.lp_pool import lp_pool2d as lp_pool2d
from lincoln_fn.layers.lp_pool import lp_pool3d as lp_pool3d
from lincoln_fn.layers.lstm import lstm as lstm
from lincoln_fn.layers.masked_mean import masked_mean as masked_mean
from lincoln_fn.layers.matmul import matmul as matmul
from lincoln_fn.layers.max_pool import max_pool1d as max_pool1d
from lincoln_fn.layers.max_pool import max_pool2d as max_pool2d
from lincoln_fn.layers.max_pool import max_pool3d as max_pool3d
from lincoln_fn.layers.mish import mish as mish
from lincoln_fn.layers.multi_head_attention import multi_head_attention as multi_head_attention
from lincoln_fn.layers.multiply import multiply as multiply
from lincoln_fn.layers.normalize import normalize as normalize
from lincoln_fn.layers.pad import circular_pad1d as circular_pad1d
from lincoln_fn.layers.pad import circular_pad2d as circular_pad2d
from lincoln_fn.layers.pad import circular_pad3d as circular_pad3d
from lincoln_fn.layers.pad import constant_pad1d as constant_pad1d
from lincoln_fn.layers.pad import constant_pad2d as constant_pad2d
from lincoln_fn.layers.pad import constant_pad3d as constant_pad3d
from lincoln_fn.layers.pad import reflection_pad1d as reflection_pad1d
from lincoln_fn.layers.pad import reflection_pad2d as reflection_pad2d
from lincoln_fn.layers.pad import reflection_pad3d as reflection_pad3d
from lincoln_fn.layers.pad import replication_pad1d as replication_pad1d
from lincoln_fn.layers.pad import replication_pad2d as replication_pad2d
from lincoln_fn.layers.pad import replication_pad3d as replication_pad3d
from lincoln_fn.layers.pad import zero_pad1d as zero_pad1d
from lincoln_fn.layers.pad import zero_pad2d as zero_pad2d
from lincoln_fn.layers.pad import zero_pad3d as zero_pad3d
from lincoln_fn.layers.pairwise import divide as divide
from lincoln_fn.layers.pairwise import maximum as maximum
from lincoln_fn.layers.pairwise import subtract as subtract
from lincoln_fn.layers.permute import permute as permute
from lincoln_fn.layers.pixel_shuffle import pixel_shuffle as pixel_shuffle
from lincoln_fn.layers.pixel_unshuffle import pixel_unshuffle as pixel_unshuffle
from lincoln_fn.layers.positional_embedding import positional_embedding as positional_embedding
from lincoln_fn.layers.prelu import prelu as prelu
from lincoln_fn.layers.quick_gelu import quick_gelu as quick_gelu
from lincoln_fn.layers.recurrent_cell import gru_cell as gru_cell
from lincoln_fn.layers.recurrent_cell import lstm_cell as lstm_cell
from lincoln_fn.layers.recurrent_cell import rnn_cell as rnn_cell
from lincoln_fn.layers.reductions import amax as amax
from lincoln_fn.layers.reductions import mean as mean
from lincoln_fn.layers.reductions import norm as norm
from lincoln_fn.layers.reductions import sum as sum  # noqa: A004  # torch's name
from lincoln_fn.layers.relative_position_bias import (
    relative_position_bias as relative_position_bias,
)
from lincoln_fn.layers.relu import relu as relu
from lincoln_fn.layers.relu6 import relu6 as relu6
from lincoln_fn.layers.reshape import reshape as reshape
from lincoln_fn.layers.rms_norm import rms_norm as rms_norm
from lincoln_fn.layers.rnn import rnn as rnn
from lincoln_fn.layers.rotary_embedding import rotary_embedding as rotary_embedding
from lincoln_fn.layers.rrelu import rrelu as rrelu
from lincoln_fn.layers.scale import scale as scale
from lincoln_fn.layers.scaled_dot_product_attention import (
    scaled_dot_product_attention as scaled_dot_product_attention,
)
from lincoln_fn.layers.scatter import scatter as scatter
from lincoln_fn.layers.selective_scan import selective_scan as selective_scan
from lincoln_fn.layers.selu import selu as selu
from lincoln_fn.layers.sigmoid import sigmoid as sigmoid
from lincoln_fn.layers.silu import silu as silu
from lincoln_fn.layers.sinusoidal_positions import sinusoidal_positions as sinusoidal_positions
from lincoln_fn.layers.softcap import softcap as softcap
from lincoln_fn.layers.softmax import softmax as softmax
from lincoln_fn.layers.softmin import softmin as softmin
from lincoln_fn.layers.softplus import softplus as softplus
from lincoln_fn.layers.softshrink import softshrink as softshrink
from lincoln_fn.layers.softsign import softsign as softsign
from lincoln_fn.layers.spectral_norm import spectral_norm as spectral_norm
from lincoln_fn.layers.split import split as split
from lincoln_fn.layers.stack import stack as stack
from lincoln_fn.layers.stochastic_depth import stochastic_depth as stochastic_depth
from lincoln_fn.layers.stop_gradient import stop_gradient as stop_gradient
from lincoln_fn.layers.take import take as take
from lincoln_fn.layers.tanh import tanh as tanh
from lincoln_fn.layers.tanhshrink import tanhshrink as tanhshrink
from lincoln_fn.layers.threshold import threshold as threshold
from lincoln_fn.layers.timestep_embedding import timestep_embedding as timestep_embedding
from lincoln_fn.layers.token_log_probs import token_log_probs as token_log_probs
from lincoln_fn.layers.unflatten import unflatten as unflatten
from lincoln_fn.layers.upsample import upsample as upsample
from lincoln_fn.layers.variance import variance as variance
from lincoln_fn.layers.vector_quantize import vector_quantize as vector_quantize
from lincoln_fn.layers.weight_norm import weight_norm as weight_norm
from lincoln_fn.layers.where import where as where
from lincoln_fn.losses import Loss as Loss
from lincoln_fn.optim import Optimizer as Optimizer
from lincoln_fn.recording import recorded as recorded
from lincoln_fn.runtime.memory import keep_freed_memory as keep_freed_memory
from lincoln_fn.runtime.threads import adapt_waiting as adapt_waiting
from lincoln_fn.training import data as data
from lincoln_fn.training import metrics as metrics
from lincoln_fn.training.evaluate import evaluate as evaluate
from lincoln_fn.training.fit import fit as fit
from lincoln_fn.training.gradient import Gradient as Gradient
from lincoln_fn.training.history import FitRecord as FitRecord
from lincoln_fn.training.history import History as History
from lincoln_fn.training.make_step import make_step as make_step
from lincoln_fn.training.train import StateLike as StateLike
from lincoln_fn.training.train import StepRecord as StepRecord
from lincoln_fn.training.train import TrainState as TrainState
from lincoln_fn.training.train import init_state as init_state
from lincoln_fn.training.train import train as train
from lincoln_fn.training.value_and_gradient import value_and_gradient as value_and_gradient
from lincoln_fn.walk import Site as Site
from lincoln_fn.walk import cotangents as cotangents
from lincoln_fn.walk import grads_at as grads_at
from lincoln_fn.walk import map_params as map_params

__version__ = "0.1.0"

# `from lincoln_fn.data import batches` works, too: these public modules stand in a room.
for _module in (data, keys, metrics, rope_scaling, terms, tree):
    _sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module

if not _TYPE_CHECKING:
    # Python adds every submodule to these names. Public are those that are imported above.
    _MODULES = frozenset(
        (
            attribution,
            checkpoint,
            curvature,
            data,
            distributed,
            initializers,
            inspect,
            interop,
            keys,
            layers,
            losses,
            metrics,
            notebook,
            optim,
            per_example,
            plots,
            replay,
            rope_scaling,
            rules,
            schedules,
            streams,
            terms,
            testing,
            tree,
            walk,
        )
    )
    __all__ = sorted(
        name
        for name, value in globals().items()
        if not name.startswith("_") and (not isinstance(value, _ModuleType) or value in _MODULES)
    )

    # To a type checker, a name that is not here is an error already.

    def _refuse(module: str, name: str) -> _NoReturn:
        """Raise the error about a name that is not here; for torch's, it says what ours is."""
        from lincoln_fn.vocabulary import missing_name

        raise missing_name(module, name)

    __getattr__ = _partial(_refuse, __name__)
    for _home in (losses, optim, schedules):
        vars(_home)["__getattr__"] = _partial(_refuse, _home.__name__)


notebook.load_if_in_ipython()
