"""The kinds of layers, by which a composite chooses rules.

A kind is a set of functions: the `forward` of the layers that belong to it. A set with your own
layer's `forward` is a kind, too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Final, TypeAlias

from lincoln_fn import layers
from lincoln_fn.combine import _completed, _scores, context
from lincoln_fn.layer import Layer, unbound
from lincoln_fn.layers import (
    _by_running,
    _heads,
    adaptive_avg_pool,
    adaptive_max_pool,
    add,
    alpha_dropout,
    avg_pool,
    batch_norm,
    bilinear,
    concatenate,
    conv,
    conv_transpose,
    dense,
    dropout,
    embedding,
    flatten,
    fractional_max_pool,
    global_avg_pool,
    glu,
    group_norm,
    gru,
    identity,
    instance_norm,
    last_state,
    layer_norm,
    local_response_norm,
    log_softmax,
    lp_pool,
    lstm,
    masked_mean,
    max_pool,
    multi_head_attention,
    multiply,
    pad,
    permute,
    pixel_shuffle,
    pixel_unshuffle,
    positional_embedding,
    recurrent_cell,
    reshape,
    rms_norm,
    rnn,
    rrelu,
    scaled_dot_product_attention,
    sinusoidal_positions,
    softmax,
    softmin,
    unflatten,
    upsample,
)
from lincoln_fn.rules import _blocks

# Any: the functions of every layer.
Function: TypeAlias = Callable[..., Any]
Kind: TypeAlias = frozenset[Function]


def kind_of(layer: Layer) -> Function:
    """Return the function that kinds know a single layer by.

    Args:
        layer: the layer.

    Returns:
        Its `forward` without hyperparameters. For a layer of `inference(net)` that runs its
        `predict`, that `predict`.

    Example:
        >>> kind_of(lf.dense(3)) in DENSE, kind_of(lf.inference(lf.dropout())) in DROPOUT
        (True, True)
    """
    forward = layer.forward
    bound = forward.keywords if isinstance(forward, partial) else {}
    return unbound(bound.get("predict", forward))


def _kind(*modules: Any) -> Kind:  # Any: a module, whose `forward` is a layer's
    return frozenset(module.forward for module in modules)


def _predicted(*modules: Any) -> Kind:  # Any: likewise
    return frozenset(module.predict for module in modules)


DENSE: Final[Kind] = _kind(dense, _scores)
CONVOLUTION: Final[Kind] = _kind(conv, conv_transpose)
LINEAR: Final[Kind] = DENSE | CONVOLUTION
GATED: Final[Kind] = _kind(glu)
SOFTMAX: Final[Kind] = _kind(softmax, softmin)
NORM: Final[Kind] = _kind(
    batch_norm, _by_running, group_norm, instance_norm, layer_norm, local_response_norm, rms_norm
)
DROPOUT: Final[Kind] = _kind(dropout, alpha_dropout) | _predicted(dropout, alpha_dropout)
# A mean of elements of x, or another function with f(c x) = c f(x).
AVG_POOL: Final[Kind] = _kind(avg_pool, adaptive_avg_pool, global_avg_pool, lp_pool, masked_mean)
MAX_POOL: Final[Kind] = _kind(max_pool, adaptive_max_pool, fractional_max_pool)
ADDITION: Final[Kind] = _kind(add, positional_embedding, sinusoidal_positions)
PRODUCT: Final[Kind] = _kind(multiply)
ATTENTION: Final[Kind] = _kind(_heads, scaled_dot_product_attention) | _predicted(_heads)
RECURRENT: Final[Kind] = _kind(rnn, gru, lstm, recurrent_cell)
EMBEDDING: Final[Kind] = _kind(embedding)
# Each element of y is one of x, or an interpolation between several.
MOVING: Final[Kind] = _kind(
    concatenate, flatten, identity, last_state, pad, permute, pixel_shuffle, pixel_unshuffle,
    reshape, unflatten, upsample,
) | frozenset((context._forward, _completed._forward, _blocks.PROJECTIONS.forward))  # fmt: skip
# Layers for which no composite has a rule, and a composition.
_OTHER: Final[Kind] = _kind(bilinear, log_softmax, multi_head_attention)


def _all() -> Kind:
    """Collect the layers of the library."""
    names = [module.name for module in iter_modules(layers.__path__)]
    public = [name for name in names if not name.startswith("_")]
    return _kind(*(import_module(f"{layers.__name__}.{name}") for name in public))


# All others work element by element. So a new activation needs no line here.
ACTIVATION: Final[Kind] = _predicted(rrelu) | _all().difference(
    LINEAR, GATED, SOFTMAX, NORM, DROPOUT, AVG_POOL, MAX_POOL, ADDITION, PRODUCT, ATTENTION,
    RECURRENT, EMBEDDING, MOVING, _OTHER,
)  # fmt: skip
