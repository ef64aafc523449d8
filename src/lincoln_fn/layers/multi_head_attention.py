"""Multi-head attention: y = heads(query W_q + b_q, key W_k + b_k, value W_v + b_v) W_o + b_o.

Derivation. It is a composition of four dense layers, with the heads between them.
`layers/attention_heads.py` derives the heads' attention. The chain rule gives each part its g:

    dheads = g W_o^T    and `dense` derives dW_o and db_o
    (dq, dk, dv) = what the heads make of dheads
    dquery = dq W_q^T    and `dense` derives dW_q and db_q; likewise for key and value
    db_k = 0

The last line holds because b_k adds the same number to all scores of a query, which does not change
their softmax. In self-attention, where x enters three times, dx = dquery + dkey + dvalue.

Cache: those of the parts, and the form of x. Source: Vaswani and others, "Attention Is All You
Need", 2017, section 3.2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, PositiveInt, Probability, Sequence, record, unexpected
from lincoln_fn.initializers import Initializer, fan_in_uniform, glorot_uniform, zeros
from lincoln_fn.layers import dense, dropout
from lincoln_fn.layers.attention_heads import attention_heads
from lincoln_fn.layers.common import attention_forms
from lincoln_fn.layers.common.attention import check_mask
from lincoln_fn.layers.common.attention_forms import Cache, Given, Gradients, Inputs
from lincoln_fn.layers.common.open_dense import open_dense, with_outputs
from lincoln_fn.walk.internal import Record, VisitRecord, fields, visit_parts

NAME = "multi_head_attention"


@record
class Params:
    """The four projections' params, and the key of the weights' dropout, or None without it."""

    query: dense.Params
    key: dense.Params
    value: dense.Params
    output: dense.Params
    dropout: dropout.Params | None


_ARRANGEMENT = fields(Params, "query", "key", "value", "dropout", "output")


# Any: the other arguments of the constructor.
def init(key: Key, x: Inputs, *, num_heads: int, p: float = 0.0, **options: Any) -> Params:
    """Draw the params; three equal dense layers count as one with three outputs, as in torch."""
    params: Params = multi_head_attention(num_heads, dropout=p, **options).init(key, x)
    return params


def _init(
    parts: tuple[Layer, ...], key: Key, x: Inputs, *, find: Callable[[Inputs], Given], p: float
) -> Params:
    sequences = find(x).sequences
    n, sizes = sequences[0].shape[-1], {sequence.shape[-1] for sequence in sequences}
    drawn = [*map(core.checked_key(NAME, key).fold_in, range(5))]
    fan_out = 3 * n if len(sizes) == 1 else n
    trios = zip(drawn, parts, sequences, strict=False)
    query, key_, value = (with_outputs(n, part, fan_out=fan_out).init(k, s) for k, part, s in trios)
    output = with_outputs(n, parts[4]).init(drawn[3], sequences[0])
    return Params(query, key_, value, output, dropout.Params(drawn[4]) if p else None)


def find(x: Inputs, *, num_heads: int, batch_first: bool) -> Given:
    """Find the parts of x; a mask has all axes of the scores, or is one of padding."""
    given = attention_forms.parts_of(NAME, x, batch_first=batch_first, takes_positions=False)
    (query, key, _), mask = given.sequences, given.mask
    n = query.shape[-1]
    if n == 0 or n % num_heads:
        raise unexpected(NAME, f"a query with features in {num_heads} heads", n)
    padding = (*query.shape[:-2], key.shape[-2])
    scores = (*query.shape[:-2], num_heads, query.shape[-2], key.shape[-2])
    if isinstance(mask, torch.Tensor) and mask.ndim != len(scores):
        forms = f"{padding}, or of {len(scores)} axes that broadcast to {scores}"
        raise core.wrong_shape(NAME, "a mask", mask, forms)
    check_mask(NAME, mask, query, scores)
    return given


def gather(visit: VisitRecord, params: Params, records: tuple[Record, ...]) -> Params:
    """Collect the parts' gradients, with db_k = 0."""
    dparams: Params = visit_parts(_ARRANGEMENT, visit, params, records)
    if type(params.key) is not dense.Params or params.key.bias is None:
        return dparams
    # The computed sum would be rounding errors, which an optimizer such as adam would amplify.
    no_bias = torch.zeros_like(params.key.bias)
    return core.evolve(dparams, key=core.evolve(dparams.key, bias=no_bias))


def forward(
    params: Params, x: Inputs, *, num_heads: int, p: float = 0.0, is_causal: bool,
    batch_first: bool,
) -> tuple[Sequence, Cache]:  # fmt: skip
    """Compute y = heads(query W_q + b_q, key W_k + b_k, value W_v + b_v) W_o + b_o."""
    layer = multi_head_attention(num_heads, dropout=p, is_causal=is_causal, batch_first=batch_first)
    return layer.forward(params, x)


def backward(params: Params, cache: Cache, g: Sequence) -> tuple[Gradients, Params]:
    """Compute dx, which mirrors x, and dparams."""
    return multi_head_attention(1).backward(params, cache, g)


@core.constructor
def multi_head_attention(
    num_heads: PositiveInt, *, dropout: Probability = 0.0, bias: bool = True,
    is_causal: bool = False, batch_first: bool = True, weight_init: Initializer = glorot_uniform(),
    output_weight_init: Initializer = fan_in_uniform(), bias_init: Initializer = zeros(),
) -> Layer:  # fmt: skip
    """Compute attention with several heads, each with a share of the features.

    The form of x decides the kind of attention. A sequence (batch, length, features) or (sequence,
    mask) is self-attention. In (query, key, value) and (query, key, value, mask), the entries may
    have different lengths and features. y has the query's shape. A mask is True where attention is
    allowed. It has the shape (batch, key length) for padding, or four axes that broadcast to
    (batch, heads, length, key length). A floating mask is added to the scores; None is no mask. The
    batch may be any number of leading axes, including none.

    Args:
        num_heads: the number of heads; the number of the query's features is a multiple of it.
        batch_first: whether the batch is the first axis of the sequences; if not, which is torch's
            default, the length is first and the batch second. A mask always has the batch first.
        weight_init: draws the weights of query, key and value; the default is torch's.
        output_weight_init: draws the output's weight; the default is torch's.

    Example:
        >>> x = torch.zeros(2, 5, 8)
        >>> layer = multi_head_attention(4)
        >>> layer.predict(layer.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 8])
    """

    def projection(weight_init: Initializer) -> Layer:
        drawn = open_dense("features", bias=bias, weight_init=weight_init, bias_init=bias_init)
        return drawn.replace(name="projection()")

    heads = attention_heads(
        num_heads, is_causal=is_causal, dropout=dropout, is_aligned_at_end=False
    )
    parts = (*(projection(weight_init),) * 3, heads, projection(output_weight_init))
    of_x = partial(find, num_heads=num_heads, batch_first=batch_first)
    make = partial(
        attention_forms.attention_of, parts=parts, find=of_x, arrange=_ARRANGEMENT,
        counts=(num_heads, num_heads), gather=gather, init=partial(_init, find=of_x, p=dropout),
        names=("query", "key", "value", "heads", "output"),
    )  # fmt: skip
    return core.bare(make)
