from lincoln_fn import (
    attribution as attribution, checkpoint as checkpoint, curvature as curvature,
    distributed as distributed, initializers as initializers, inspect as inspect,
    interop as interop, layers as layers, losses as losses, notebook as notebook, optim as optim,
    per_example as per_example, plots as plots, replay as replay, rules as rules,
    schedules as schedules, streams as streams, testing as testing, walk as walk,
)
from lincoln_fn.combine import (
    branch as branch, causal_conv1d as causal_conv1d, checkpointed as checkpointed,
    constant as constant, coupling as coupling, fixed_point as fixed_point, frozen as frozen,
    geglu as geglu, gradients_by_name as gradients_by_name, graph as graph, in_dtype as in_dtype,
    inference as inference, inverse as inverse, mamba as mamba, masked as masked,
    mixture_of_experts as mixture_of_experts, ode as ode, parallel as parallel, repeat as repeat,
    residual as residual, reversible as reversible, scan as scan, select as select,
    serial as serial, shared as shared, swiglu as swiglu, tapped as tapped, tied as tied,
    transformer_decoder_block as transformer_decoder_block,
    transformer_encoder_block as transformer_encoder_block, with_context as with_context,
)
from lincoln_fn.compiler import compile as compile, export as export, export_step as export_step
from lincoln_fn.core import keys as keys, terms as terms, tree as tree
from lincoln_fn.core.declaration import declare as declare
from lincoln_fn.core.keys import Key as Key
from lincoln_fn.core.layer import Layer as Layer, map_layers as map_layers
from lincoln_fn.core.record import (
    State as State, evolve as evolve, record as record, static as static,
)
from lincoln_fn.decoding import (
    DecodeState as DecodeState, Decoder as Decoder, beam_search as beam_search, decode as decode,
    generate as generate, samplers as samplers,
)
from lincoln_fn.errors.errors import LayerError as LayerError, NonFiniteError as NonFiniteError
from lincoln_fn.fastpath import fast as fast
from lincoln_fn.finetune import (
    dora as dora, load_adapter as load_adapter, lora as lora, merge_lora as merge_lora,
    quantize as quantize, save_adapter as save_adapter,
)
from lincoln_fn.inspect.summary import summary as summary
from lincoln_fn.layers.adaptive_avg_pool import (
    adaptive_avg_pool1d as adaptive_avg_pool1d, adaptive_avg_pool2d as adaptive_avg_pool2d,
    adaptive_avg_pool3d as adaptive_avg_pool3d,
)
from lincoln_fn.layers.adaptive_max_pool import (
    adaptive_max_pool1d as adaptive_max_pool1d, adaptive_max_pool2d as adaptive_max_pool2d,
    adaptive_max_pool3d as adaptive_max_pool3d,
)
from lincoln_fn.layers.add import add as add
from lincoln_fn.layers.alibi import alibi as alibi
from lincoln_fn.layers.alpha_dropout import (
    alpha_dropout as alpha_dropout, feature_alpha_dropout as feature_alpha_dropout,
)
from lincoln_fn.layers.attention_heads import attention_heads as attention_heads
from lincoln_fn.layers.avg_pool import (
    avg_pool1d as avg_pool1d, avg_pool2d as avg_pool2d, avg_pool3d as avg_pool3d,
)
from lincoln_fn.layers.batch_norm import batch_norm as batch_norm
from lincoln_fn.layers.bias import bias as bias
from lincoln_fn.layers.bilinear import bilinear as bilinear
from lincoln_fn.layers.broadcast import (
    broadcast_tensors as broadcast_tensors, broadcast_to as broadcast_to,
)
from lincoln_fn.layers.celu import celu as celu
from lincoln_fn.layers.class_token import class_token as class_token
from lincoln_fn.layers.common import rope_scaling as rope_scaling
from lincoln_fn.layers.concatenate import concatenate as concatenate
from lincoln_fn.layers.conv import conv1d as conv1d, conv2d as conv2d, conv3d as conv3d
from lincoln_fn.layers.conv_transpose import (
    conv_transpose1d as conv_transpose1d, conv_transpose2d as conv_transpose2d,
    conv_transpose3d as conv_transpose3d,
)
from lincoln_fn.layers.cosine_similarities import cosine_similarities as cosine_similarities
from lincoln_fn.layers.dense import dense as dense
from lincoln_fn.layers.dilate import dilate as dilate
from lincoln_fn.layers.dropout import (
    dropout as dropout, dropout1d as dropout1d, dropout2d as dropout2d, dropout3d as dropout3d,
)
from lincoln_fn.layers.elementwise import (
    absolute as absolute, clamp as clamp, cos as cos, exp as exp, log as log, power as power,
    reciprocal as reciprocal, shift as shift, sin as sin, sqrt as sqrt,
)
from lincoln_fn.layers.elu import elu as elu
from lincoln_fn.layers.embedding import embedding as embedding
from lincoln_fn.layers.flatten import flatten as flatten
from lincoln_fn.layers.flip import flip as flip
from lincoln_fn.layers.fractional_max_pool import (
    fractional_max_pool2d as fractional_max_pool2d, fractional_max_pool3d as fractional_max_pool3d,
)
from lincoln_fn.layers.gated_linear_recurrence import (
    gated_linear_recurrence as gated_linear_recurrence,
)
from lincoln_fn.layers.gather import gather as gather, index_select as index_select
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
from lincoln_fn.layers.jvp import jvp as jvp
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
from lincoln_fn.layers.lp_pool import (
    lp_pool1d as lp_pool1d, lp_pool2d as lp_pool2d, lp_pool3d as lp_pool3d,
)
from lincoln_fn.layers.lstm import lstm as lstm
from lincoln_fn.layers.masked_mean import masked_mean as masked_mean
from lincoln_fn.layers.matmul import matmul as matmul
from lincoln_fn.layers.max_pool import (
    max_pool1d as max_pool1d, max_pool2d as max_pool2d, max_pool3d as max_pool3d,
)
from lincoln_fn.layers.mish import mish as mish
from lincoln_fn.layers.multi_head_attention import multi_head_attention as multi_head_attention
from lincoln_fn.layers.multiply import multiply as multiply
from lincoln_fn.layers.normalize import normalize as normalize
from lincoln_fn.layers.pad import (
    circular_pad1d as circular_pad1d, circular_pad2d as circular_pad2d,
    circular_pad3d as circular_pad3d, constant_pad1d as constant_pad1d,
    constant_pad2d as constant_pad2d, constant_pad3d as constant_pad3d,
    reflection_pad1d as reflection_pad1d, reflection_pad2d as reflection_pad2d,
    reflection_pad3d as reflection_pad3d, replication_pad1d as replication_pad1d,
    replication_pad2d as replication_pad2d, replication_pad3d as replication_pad3d,
    zero_pad1d as zero_pad1d, zero_pad2d as zero_pad2d, zero_pad3d as zero_pad3d,
)
from lincoln_fn.layers.pairwise import divide as divide, maximum as maximum, subtract as subtract
from lincoln_fn.layers.permute import permute as permute
from lincoln_fn.layers.pixel_shuffle import pixel_shuffle as pixel_shuffle
from lincoln_fn.layers.pixel_unshuffle import pixel_unshuffle as pixel_unshuffle
from lincoln_fn.layers.positional_embedding import positional_embedding as positional_embedding
from lincoln_fn.layers.prelu import prelu as prelu
from lincoln_fn.layers.quick_gelu import quick_gelu as quick_gelu
from lincoln_fn.layers.recurrent_cell import (
    gru_cell as gru_cell, lstm_cell as lstm_cell, rnn_cell as rnn_cell,
)
from lincoln_fn.layers.reductions import amax as amax, mean as mean, norm as norm, sum as sum
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
from lincoln_fn.runtime.process import (
    adapt_waiting as adapt_waiting, keep_freed_memory as keep_freed_memory,
)
from lincoln_fn.training import data as data, metrics as metrics
from lincoln_fn.training.evaluate import evaluate as evaluate
from lincoln_fn.training.fit import fit as fit
from lincoln_fn.training.history import FitRecord as FitRecord, History as History
from lincoln_fn.training.protocols import Gradient as Gradient
from lincoln_fn.training.make_step import make_step as make_step
from lincoln_fn.training.train import (
    StateLike as StateLike, StepRecord as StepRecord, TrainState as TrainState,
    init_state as init_state, train as train,
)
from lincoln_fn.training.bare_step import value_and_gradient as value_and_gradient
from lincoln_fn.walk import (
    Site as Site, cotangents as cotangents, grads_at as grads_at, map_params as map_params,
)

__version__: str
