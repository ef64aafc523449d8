"""A pure-functional, stateless deep-learning library on torch tensors, without autograd.

Every layer is a pair of pure functions with gradients written by hand:

    y, cache    = layer.forward(params, x)
    dx, dparams = layer.backward(params, cache, g)
"""

from lincoln_fn import (
    checkpoint,
    data,
    initializers,
    inspect,
    interop,
    keys,
    layers,
    losses,
    metrics,
    nn,
    optim,
    plots,
    schedules,
    streams,
    testing,
    tree,
    walk,
)
from lincoln_fn.combine import (
    branch,
    checkpointed,
    frozen,
    in_dtype,
    parallel,
    repeat,
    residual,
    select,
    serial,
    shared,
    tied,
    transformer_decoder_block,
    transformer_encoder_block,
    with_context,
)
from lincoln_fn.compiled import compile, export_step  # noqa: A004  # torch's users expect it
from lincoln_fn.evaluate import evaluate
from lincoln_fn.fastpath import fast
from lincoln_fn.fit import FitRecord, fit
from lincoln_fn.keys import Key
from lincoln_fn.layer import Layer, map_layers
from lincoln_fn.losses import Loss
from lincoln_fn.memory import keep_freed_memory
from lincoln_fn.nn import *  # noqa: F403  # the constructors of layers
from lincoln_fn.optim import Optimizer
from lincoln_fn.record import State, record, static
from lincoln_fn.shapes import LayerError, NonFiniteError
from lincoln_fn.summary import summary
from lincoln_fn.train import StepRecord, TrainState, init_state, make_step, train
from lincoln_fn.walk import Site, cotangents, grads_at

__version__ = "0.1.0"

__all__ = [
    "FitRecord",
    "Key",
    "Layer",
    "LayerError",
    "Loss",
    "NonFiniteError",
    "Optimizer",
    "Site",
    "State",
    "StepRecord",
    "TrainState",
    "branch",
    "checkpoint",
    "checkpointed",
    "compile",
    "cotangents",
    "data",
    "evaluate",
    "export_step",
    "fast",
    "fit",
    "frozen",
    "grads_at",
    "in_dtype",
    "init_state",
    "initializers",
    "inspect",
    "interop",
    "keep_freed_memory",
    "keys",
    "layers",
    "losses",
    "make_step",
    "map_layers",
    "metrics",
    "optim",
    "parallel",
    "plots",
    "record",
    "repeat",
    "residual",
    "schedules",
    "select",
    "serial",
    "shared",
    "static",
    "streams",
    "summary",
    "testing",
    "tied",
    "train",
    "transformer_decoder_block",
    "transformer_encoder_block",
    "tree",
    "walk",
    "with_context",
    *nn.__all__,
]
