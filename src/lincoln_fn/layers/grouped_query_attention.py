"""Grouped-query attention of parts: projections, norms, positions and heads, each a layer.

    q_1 = split(query W_q + b_q)
    q_2 = N(q_1)    with N the norm of queries
    q_3 = P(q_2)    with P the positions
    v = value W_v + b_v
    y = heads(q_3, k_3, v) W_o + b_o

`split` cuts features into heads, (..., length, heads features) into (..., heads, length, features),
and `merge` puts them side by side again. k_3 is made of the key as q_3 is of the query.

Derivation. It is a composition. `attention_heads` derives (dq_3, dk_3, dv) from g W_o^T. The
backward of P makes dq_2 of dq_3, and that of N makes dq_1 of dq_2. Then

    dquery = merge(dq_1) W_q^T    likewise for key
    dvalue = dv W_v^T

and `dense` derives the gradients of the weights and the biases. In self-attention, where x enters
three times, dx = dquery + dkey + dvalue.

Cache: those of the parts, and the form of x.

Source: Ainslie and others, "GQA: Training Generalized Multi-Query Transformer Models from
Multi-Head Checkpoints", 2023; the order of norms and positions is that of Qwen 3.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, Positive, PositiveInt, Probability, Sequence, unexpected
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layers import dense
from lincoln_fn.layers import dropout as dropouts
from lincoln_fn.layers.attention_heads import attention_heads
from lincoln_fn.layers.common import attention_forms
from lincoln_fn.layers.common.attention_forms import Cache, Gradients, Inputs
from lincoln_fn.layers.common.open_dense import open_dense, with_outputs
from lincoln_fn.layers.identity import identity
from lincoln_fn.layers.rotary_embedding import rotary_embedding
from lincoln_fn.walk import fields

NAME = "grouped_query_attention"


@core.record
class Params:
    """The params of the projections, of the norms (() without them), and of the heads' dropout."""

    query: dense.Params
    key: dense.Params
    value: dense.Params
    query_norm: core.Params
    key_norm: core.Params
    output: dense.Params
    dropout: dropouts.Params | tuple[()] = ()


_ARRANGEMENT = fields(
    Params, "query", "key", "value", "query_norm", "key_norm", None, None, "dropout", "output"
)
_NAMES = (
    "query", "key", "value", "query_norm", "key_norm", "query_positions", "key_positions", "heads",
    "output",
)  # fmt: skip


def init(
    parts: tuple[Layer, ...], key: Key, x: Inputs, *, num_heads: int, num_kv_heads: int,
    head_dim: int | None,
) -> Params:  # fmt: skip
    """Make the params of each part, with a key of its own; head_dim is found from the query."""
    query, key_, value = attention_forms.parts_of(NAME, x).sequences
    features = query.shape[-1]
    n = features // num_heads if head_dim is None else head_dim
    if head_dim is None and (n == 0 or features % num_heads):
        raise unexpected(NAME, f"a query with features in {num_heads} heads, or head_dim", features)
    drawn = [*map(core.checked_key(NAME, key).fold_in, range(7))]

    def heads(sequence: Sequence, count: int) -> Tensor:
        return sequence.new_zeros(()).expand(*sequence.shape[:-2], count, sequence.shape[-2], n)

    q, k = heads(query, num_heads), heads(key_, num_kv_heads)
    merged = q.new_zeros(()).expand(*query.shape[:-1], num_heads * n)
    return Params(
        with_outputs(num_heads * n, parts[0]).init(drawn[0], query),
        with_outputs(num_kv_heads * n, parts[1]).init(drawn[1], key_),
        with_outputs(num_kv_heads * n, parts[2]).init(drawn[2], value),
        parts[3].init(drawn[3], q),
        parts[4].init(drawn[4], k),
        with_outputs(features, parts[8]).init(drawn[5], merged),
        parts[7].init(drawn[6], (merged,)),
    )


# Any: options of the constructor.
def forward(params: Params, x: Inputs, *, num_heads: int, **options: Any) -> tuple[Sequence, Cache]:
    """Compute y = heads(q, k, v) W_o + b_o."""
    return grouped_query_attention(num_heads, **options).forward(params, x)


def backward(
    params: Params, cache: Cache, g: Sequence, *, num_heads: int, **options: Any
) -> tuple[Gradients, Params]:
    """Compute dx, which mirrors x, and dparams."""
    return grouped_query_attention(num_heads, **options).backward(params, cache, g)


_ROTARY = rotary_embedding()


@core.constructor
def grouped_query_attention(
    num_heads: PositiveInt, num_kv_heads: PositiveInt | None = None,
    *, head_dim: PositiveInt | None = None, positions: Layer | None = _ROTARY,
    qk_norm: Layer | None = None, bias: bool = False, output_bias: bool | None = None,
    is_causal: bool = True, sliding_window: PositiveInt | None = None,
    softcap: Positive | None = None, scale: float | None = None, dropout: Probability = 0.0,
    weight_init: Initializer = fan_in_uniform(), bias_init: Initializer = fan_in_uniform(),
) -> Layer:  # fmt: skip
    """Make the attention of today's language models, of parts that are layers.

    Llama, Mistral, Qwen, Gemma and Phi differ in its options alone. The form of x decides what
    attends to what. A sequence (..., length, features), (sequence, mask) or (sequence, mask,
    positions) is self-attention. In (query, key, value) and (query, key, value, mask), the entries
    may have different lengths and features. y has the query's shape.

    A mask is True where attention is allowed; a floating one is added to the scores; None is no
    mask. It has the shape (..., key length) for padding, or broadcasts to (..., num_heads, length,
    key length). Positions are integers (..., length) or (length,), for sequences that do not begin
    at position 0; None for 0, 1, 2 and so on.

    Args:
        num_kv_heads: the heads of keys and values, a divisor of num_heads; None for num_heads.
        head_dim: the features of a head; None for the query's features / num_heads.
        positions: a layer without parameters on the heads (..., heads, length, head_dim) of queries
            and of keys, which takes (heads, positions), too, if x has positions; None for none.
        qk_norm: a layer on the heads of queries and of keys before their positions, such as
            `rms_norm()` in Qwen 3 and Gemma 3; each has its own params. None for none.
        bias: whether the projections of query, key and value have biases.
        output_bias: whether the output has one; None for the same as bias.
        is_causal: whether a query attends only to the keys up to its own place; like sliding_window
            and softcap, as `attention_heads` says.
        scale: a factor of the scores; None for 1 / sqrt(head_dim).
        weight_init: draws the weights of the four projections, by default as `dense` does.

    Example:
        >>> layer = grouped_query_attention(4, 2, qk_norm=lf.rms_norm())
        >>> params = layer.init(lf.Key(0), torch.zeros(2, 5, 16))
        >>> params.key, params.key_norm
        (Params(weight=float32[16, 8], bias=None), Params(weight=float32[4]))
    """
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    divides = num_heads % kv_heads == 0
    core.require(divides, NAME, f"num_kv_heads to divide num_heads = {num_heads}", num_kv_heads)
    dense_layer = partial(open_dense, weight_init=weight_init, bias_init=bias_init)
    projection = dense_layer("heads", bias=bias)
    output = dense_layer("features", bias=bias if output_bias is None else output_bias)
    norm, place = qk_norm or identity(), positions or identity()
    heads = attention_heads(
        num_heads, kv_heads, is_causal=is_causal, sliding_window=sliding_window, softcap=softcap,
        scale=scale, dropout=dropout,
    )  # fmt: skip
    parts = (*(projection,) * 3, norm, norm, place, place, heads, output)
    make = partial(
        attention_forms.attention_of, parts=parts, find=partial(attention_forms.parts_of, NAME),
        arrange=_ARRANGEMENT, counts=(num_heads, kv_heads), names=_NAMES,
        init=partial(init, head_dim=head_dim, num_heads=num_heads, num_kv_heads=kv_heads),
    )  # fmt: skip
    return core.bare(make)
