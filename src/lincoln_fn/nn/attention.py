"""Constructors of attention layers."""

from __future__ import annotations

from functools import partial

from lincoln_fn import layers
from lincoln_fn.initializers import Initializer, fan_in_uniform, glorot_uniform, zeros
from lincoln_fn.layer import Layer, call_repr, unchanged
from lincoln_fn.nn.build import layer_of

__all__ = ["multi_head_attention", "scaled_dot_product_attention"]

_GLOROT = glorot_uniform()
_FAN_IN_INIT = fan_in_uniform()
_ZEROS = zeros()


def scaled_dot_product_attention(is_causal: bool = False, scale: float | None = None) -> Layer:
    """Make attention itself, y = softmax(query key^T scale + mask) value.

    Args:
        is_causal: whether query i attends to keys 0 to i only, beside what a mask forbids.
        scale: a factor of the scores; None for 1 / sqrt(features).

    Returns:
        The layer, from (query, key, value) or (query, key, value, mask), without parameters.

    Example:
        >>> scaled_dot_product_attention(), scaled_dot_product_attention(is_causal=True)
        (scaled_dot_product_attention(), scaled_dot_product_attention(is_causal=True))
    """
    name = call_repr(
        "scaled_dot_product_attention", is_causal=(is_causal, False), scale=(scale, None)
    )
    return layer_of(name, layers.scaled_dot_product_attention, is_causal=is_causal, scale=scale)


def multi_head_attention(
    num_heads: int,
    *,
    dropout: float = 0.0,
    bias: bool = True,
    is_causal: bool = False,
    weight_init: Initializer = _GLOROT,
    output_weight_init: Initializer = _FAN_IN_INIT,
    bias_init: Initializer = _ZEROS,
) -> Layer:
    """Make an attention layer with several heads, each with a share of the features.

    Of x's form depends what attends to what: a sequence (batch, length, features) or (sequence,
    mask) attends to itself; (query, key, value) and (query, key, value, mask) may be of different
    lengths and features. y has the query's shape. A mask is True where attention is allowed: of
    shape (batch, key length) for padding, or any that broadcasts to (batch, heads, length, key
    length) and has four axes; or it is floating and added to the scores, or None.

    Args:
        num_heads: the number of heads, which divides the query's features.
        dropout: the probability to drop a weight during training.
        bias: whether the four projections have biases.
        is_causal: whether query i attends to keys 0 to i only, beside what a mask forbids.
        weight_init: draws the query's, key's and value's weights, with torch's default.
        output_weight_init: draws the output's weight, with torch's default.
        bias_init: draws the biases.

    Returns:
        The layer, whose params are `layers.multi_head_attention.Params`.

    Raises:
        ValueError: if num_heads is below 1, or dropout is not from 0 to 1.

    Example:
        >>> x = torch.zeros(2, 5, 8)
        >>> layer = multi_head_attention(4)
        >>> layer.predict(layer.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 8])
    """
    if num_heads < 1:
        raise ValueError(f"multi_head_attention: expected num_heads of at least 1, got {num_heads}")
    if not 0 <= dropout <= 1:
        raise ValueError(f"multi_head_attention: expected dropout from 0 to 1, got {dropout}")
    name = call_repr(
        "multi_head_attention",
        num_heads,
        dropout=(dropout, 0.0),
        bias=(bias, True),
        is_causal=(is_causal, False),
        weight_init=(weight_init, _GLOROT),
        output_weight_init=(output_weight_init, _FAN_IN_INIT),
        bias_init=(bias_init, _ZEROS),
    )
    init = partial(
        layers.multi_head_attention.init,
        num_heads=num_heads,
        p=dropout,
        bias=bias,
        weight_init=weight_init,
        output_weight_init=output_weight_init,
        bias_init=bias_init,
    )
    module = layers.multi_head_attention
    layer = layer_of(name, module, init=init, num_heads=num_heads, p=dropout, is_causal=is_causal)
    return layer if dropout else layer.replace(advance=unchanged)
