"""Transformer blocks, composed of attention, dense layers, layer norm and dropout.

(Vaswani and others, "Attention Is All You Need", 2017, section 3.1; the order of norm_first is from
Xiong and others, "On Layer Normalization in the Transformer Architecture", 2020.)

A block consists of sublayers with residual connections: y = norm(x + dropout(layer(x))), or with
norm_first y = x + dropout(layer(norm(x))). Masks and an encoder's output are context, which is part
of x and not of y. So blocks are stacked by

    serial(block, block)          over a sequence alone,
    with_context(block, block)    over a tuple of a sequence and context,

where the second gives every block the same context and adds up its gradients. An encoder and a
decoder together, from x = (target, source), are

    serial(parallel(identity(), encoder), with_context(*decoder_blocks)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from lincoln_fn import core
from lincoln_fn.combine.branch import parallel, residual
from lincoln_fn.combine.context import OF_SEQUENCE, OF_TARGET, complete, select, with_context
from lincoln_fn.combine.serial import back, needs_dx, serial, there
from lincoln_fn.core import Arrays, Key, Layer, NonNegative, PositiveInt, Probability, Spec, bare
from lincoln_fn.layers.common.open_dense import open_dense, with_outputs
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.dropout import dropout as dropout_layer
from lincoln_fn.layers.gelu import gelu
from lincoln_fn.layers.identity import identity
from lincoln_fn.layers.layer_norm import layer_norm
from lincoln_fn.layers.multi_head_attention import multi_head_attention
from lincoln_fn.layers.relu import relu
from lincoln_fn.walk.internal import Mask, composition, init_in_turn

Activation: TypeAlias = Literal["relu", "gelu"]
_Sublayer: TypeAlias = Callable[..., Layer]  # to which the constructor gives its hyperparameters
_ACTIVATIONS = {"relu": relu, "gelu": gelu}


@core.constructor
def transformer_encoder_block(
    num_heads: PositiveInt,
    dim_feedforward: PositiveInt = 2048,
    dropout: Probability = 0.1,
    activation: Activation = "relu",
    layer_norm_eps: NonNegative = 1e-5,
    norm_first: bool = False,
    is_causal: bool = False,
    bias: bool = True,
    batch_first: bool = True,
) -> Layer:
    """Make a transformer encoder's block: self-attention, then two dense layers at each position.

    x is a sequence (batch, length, features) or (sequence, mask), with a mask or None as
    `multi_head_attention` takes it; y is a sequence.

    Args:
        num_heads: the number of heads; the number of features is a multiple of it.
        dim_feedforward: the features between the two dense layers.
        dropout: how likely attention's weights, activations and sublayers' outputs are dropped.
        norm_first: whether to normalise each sublayer's input instead of the sum.
        bias: whether dense layers, attention and layer norms have biases.
        batch_first: whether the batch is the first axis of sequences, as in `multi_head_attention`.

    Example:
        >>> x = torch.zeros(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
        >>> net = lf.with_context(*[transformer_encoder_block(4, dim_feedforward=16)] * 3)
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 8])
    """
    return bare(_encoder, _attention, _feed_forward)


@core.constructor
def transformer_decoder_block(
    num_heads: PositiveInt,
    dim_feedforward: PositiveInt = 2048,
    dropout: Probability = 0.1,
    activation: Activation = "relu",
    layer_norm_eps: NonNegative = 1e-5,
    norm_first: bool = False,
    is_causal: bool = True,
    bias: bool = True,
    batch_first: bool = True,
) -> Layer:
    """Make a transformer decoder's block: self-attention, attention to a memory, dense layers.

    x is (target, memory) or (target, memory, target mask, memory mask), with masks or None as
    `multi_head_attention` takes them; y is a sequence as the target is. The memory, an encoder's
    output, may have another length and other features. Its arguments are those of
    `transformer_encoder_block`.

    `is_causal` is of the target; torch's layer takes it at each call, and its default is False.

    Example:
        >>> x = torch.zeros(2, 5, 8), torch.zeros(2, 7, 8)
        >>> net = lf.with_context(*[transformer_decoder_block(4, dim_feedforward=16)] * 3)
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 8])
    """
    return bare(_decoder, _attention, _feed_forward)


def _encoder(call: Spec, attention: _Sublayer, feed_forward: _Sublayer) -> Layer:
    return _block(call, complete(OF_SEQUENCE), attention((0, 1)), feed_forward(), mask="sequence")


def _decoder(call: Spec, attention: _Sublayer, feed_forward: _Sublayer) -> Layer:
    to_memory = attention((0, 1, 1, 3), is_causal=False)
    last = serial(select(0), feed_forward())
    return _block(call, complete(OF_TARGET), with_context(attention((0, 2)), to_memory, last))


def _block(call: Spec, *layers: Layer, mask: Mask | None = None) -> Layer:
    label = call.of.__name__
    return composition(label, layers, there, back, needs_dx=needs_dx, call=call, mask=mask)


def _attention(
    entries: tuple[int, ...], *, num_heads: int, dropout: float, is_causal: bool, bias: bool,
    batch_first: bool, norm_first: bool, layer_norm_eps: float,
) -> Layer:  # fmt: skip
    """Make a sublayer in which x_0 attends to other entries of x."""
    attention = multi_head_attention(
        num_heads, dropout=dropout, bias=bias, is_causal=is_causal, batch_first=batch_first
    )
    norm = layer_norm(eps=layer_norm_eps, bias=bias)
    first = (parallel(norm, *(identity(),) * (len(entries) - 1)),) if norm_first else ()
    way = residual(serial(select(*entries), *first, attention, _dropout(dropout)), select(0))
    return way if norm_first else serial(way, norm)


def _feed_forward(
    *, dim_feedforward: int, dropout: float, activation: Activation, bias: bool,
    norm_first: bool, layer_norm_eps: float,
) -> Layer:  # fmt: skip
    """Make a sublayer of two dense layers, applied at each position."""
    made = (
        dense(dim_feedforward, bias=bias), _ACTIVATIONS[activation](), _dropout(dropout),
        open_dense("features", bias=bias), _dropout(dropout),
    )  # fmt: skip
    norm = layer_norm(eps=layer_norm_eps, bias=bias)
    layers = composition(
        serial, made, there, back, init=_init_sized, needs_dx=needs_dx,
        names=("linear1", "", "", "linear2", ""),
    )  # fmt: skip
    way = residual(serial(*(norm,) * norm_first, layers))
    return way if norm_first else serial(way, norm)


def _dropout(p: float) -> Layer:
    # Without dropout no mask is drawn, and the other parameters keep their paths.
    return dropout_layer(p) if p else identity()


def _init_sized(parts: tuple[Layer, ...], key: Key, x: Arrays) -> core.Params:
    """Make the params in turn; the fourth layer gets as many outputs as x has features."""
    *first, fourth, last = parts
    return init_in_turn((*first, with_outputs(x.shape[-1], fourth), last), key, x)
