"""Multi-head attention: y = heads(query W_q + b_q, key W_k + b_k, value W_v + b_v) W_o + b_o.

Derivation. It is a composition of four dense layers, with the heads between them.
`layers/attention_heads.py` derives the heads' attention. The chain rule gives each part its g:

    dheads = g W_o^T    and `dense` derives dW_o and db_o
    (dq, dk, dv) = what the heads make of dheads
    dquery = dq W_q^T    and `dense` derives dW_q and db_q; likewise for key and value
    db_k = 0

The last line holds because b_k adds the same number to all scores of a query, which does not change
their softmax. In self-attention, where x enters three times, dx = dquery + dkey + dvalue.

Cache: those of the parts, and the form of x.

Source: Vaswani and others, "Attention Is All You Need", 2017, section 3.2.2.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import torch

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, LayerError, PositiveInt, Probability, check_params, record
from lincoln_fn.initializers import Fans, Initializer, fan_in_uniform, glorot_uniform, zeros
from lincoln_fn.layers import dense, dropout
from lincoln_fn.layers.common.attention_forms import (
    NAME,
    Form,
    Given,
    Gradients,
    Inputs,
    form_of,
    from_batch_first,
    full_mask,
    heads_from_the_start,
    mirrored,
    parts_of,
    to_batch_first,
)
from lincoln_fn.layers.common.shapes import Sequence
from lincoln_fn.walk import VisitBack, VisitThere, composition, fields
from lincoln_fn.walk.internal import Record, VisitRecord, visit_parts


@record
class Params:
    """The four projections' params, and the key of the weights' dropout, or None without it."""

    query: dense.Params
    key: dense.Params
    value: dense.Params
    output: dense.Params
    dropout: dropout.Params | None


@record
class Cache:
    """The form of x, and the caches of the dense layers and of the heads between them."""

    form: Form
    query: Record
    key: Record
    value: Record
    heads: Record
    output: Record


_ARRANGEMENT = fields(Params, "query", "key", "value", "dropout", "output")


def init(
    key: Key, x: Inputs, *, num_heads: int, p: float, bias: bool, batch_first: bool,
    weight_init: Initializer, output_weight_init: Initializer, bias_init: Initializer,
) -> Params:  # fmt: skip
    """Draw the params; three equal dense layers count as one with three outputs, as in torch."""
    given = parts_of((), x, None, num_heads, None, batch_first=batch_first)
    n = given.query.shape[-1]
    drawn = [*map(core.checked_key(NAME, key).fold_in, range(5))]

    def projection(i: int, n_in: int, draw: Initializer, fan_out: int) -> dense.Params:
        weight_key, bias_key = map(drawn[i].fold_in, range(2))
        fans, dtype = Fans(n_in, fan_out), given.query.dtype
        weight = draw.draw(weight_key, (n_in, n), fans, dtype)
        return dense.Params(weight, bias_init.draw(bias_key, (n,), fans, dtype) if bias else None)

    sizes = [part.shape[-1] for part in (given.query, given.key, given.value)]
    fan_out = 3 * n if len(set(sizes)) == 1 else n
    query, key_, value = (projection(i, size, weight_init, fan_out) for i, size in enumerate(sizes))
    output = projection(3, n, output_weight_init, n)
    return Params(query, key_, value, output, dropout.Params(drawn[4]) if p else None)


# Any: the keywords of `init`.
def _init(parts: tuple[Layer, ...], key: Key, x: Inputs, **options: Any) -> Params:
    """Make the params; a layer that replaces a projection makes its own."""
    params = init(key, x, **options)
    given = parts_of((), x, None, options["num_heads"], None, batch_first=options["batch_first"])
    inputs = (given.query, given.key, given.value, given.query)
    drawn = (params.query, params.key, params.value, params.output)
    dense_layers = (*parts[:3], parts[4])
    query, key_, value, output = (
        made if _is_projection(part) else part.init(key.fold_in(i), inputs[i])
        for i, (part, made) in enumerate(zip(dense_layers, drawn, strict=True))
    )
    return Params(query, key_, value, output, params.dropout)


def _is_projection(part: Layer) -> bool:
    return core.has_init(part, _init_projection)


def _init_projection(key: Key, x: Sequence) -> dense.Params:
    """Make the params of a projection alone, with as many outputs as inputs."""
    made: dense.Params = dense.dense(x.shape[-1]).init(key, x)
    return made


_PROJECTION = dense.dense(1).replace(
    name="projection()",
    init=_init_projection,
    spec=core.Spec(dense.dense, {"n_out": None}, "projection()"),  # as many as the features
)


def there(
    visit: VisitThere, params: Params, x: Inputs, *, num_heads: int, batch_first: bool
) -> tuple[Sequence, Cache]:
    """Pass the dense layers' outputs to the heads, and theirs to the last dense layer."""
    given = check_forward(params, x, num_heads, batch_first)
    q, query = visit(0, params.query, given.query)
    k, key = visit(1, params.key, given.key)
    v, value = visit(2, params.value, given.value)
    merged, heads = visit(3, params.dropout, (q, k, v, full_mask(given)))
    y, output = visit(4, params.output, merged)
    return from_batch_first(given, y), Cache(form_of(given), query, key, value, heads, output)


def back(
    visit: VisitBack, params: Params, cache: Cache, g: Sequence
) -> tuple[Gradients | None, tuple[Record, ...]]:
    """Pass g to the last dense layer, its dx to the heads, and theirs to the first three."""
    check_params(NAME, params, Params)
    core.check_cache(NAME, cache, Cache)
    form = cache.form
    if not isinstance(g, torch.Tensor):
        raise LayerError(NAME, f"expected g to be a tensor, got {type(g).__name__}")
    core.check_cotangent(NAME, g, g, form.shape)  # the last dense layer checks the dtype
    dheads, output = visit(4, params.output, cache.output, to_batch_first(form, g))
    (dq, dk, dv, dmask), heads = visit(3, params.dropout, cache.heads, dheads)
    dquery, query = visit(0, params.query, cache.query, dq)
    dkey, key = visit(1, params.key, cache.key, dk)
    dvalue, value = visit(2, params.value, cache.value, dv)
    records = (query, key, value, heads, output)
    if dquery is None:
        return None, records
    is_self = form.entries in (0, 2)
    dinputs = (dquery + dkey + dvalue,) if is_self else (dquery, dkey, dvalue)
    return mirrored(form, dinputs, dmask), records


def gather(visit: VisitRecord, params: Params, records: tuple[Record, ...]) -> Params:
    """Collect the dense layers' gradients, with db_k = 0."""
    key = visit(1, params.key, records[1])
    if type(params.key) is dense.Params and params.key.bias is not None:
        # The computed sum would be rounding errors, which an optimizer such as adam would amplify.
        key = dense.Params(key.weight, torch.zeros_like(params.key.bias))
    return Params(
        visit(0, params.query, records[0]),
        key,
        visit(2, params.value, records[2]),
        visit(4, params.output, records[4]),
        params.dropout,
    )


def _advance(visit: VisitThere, params: Params, cache: Cache) -> Params:
    check_params(NAME, params, Params)
    records = (cache.query, cache.key, cache.value, cache.heads, cache.output)
    advanced: Params = visit_parts(_ARRANGEMENT, visit.advance, params, records)
    return advanced


def _needs_dx(i: int, params: core.Params) -> bool:
    """Return whether part i is the heads or the last dense layer: the others need its dx."""
    return i >= 3


def forward(
    params: Params, x: Inputs, *, num_heads: int, p: float = 0.0, is_causal: bool,
    batch_first: bool,
) -> tuple[Sequence, Cache]:  # fmt: skip
    """Compute y = heads(query W_q + b_q, key W_k + b_k, value W_v + b_v) W_o + b_o."""
    layer = multi_head_attention(num_heads, dropout=p, is_causal=is_causal, batch_first=batch_first)
    result: tuple[Sequence, Cache] = layer.forward(params, x)
    return result


def backward(params: Params, cache: Cache, g: Sequence) -> tuple[Gradients, Params]:
    """Compute dx, which mirrors x, and dparams."""
    result: tuple[Gradients, Params] = multi_head_attention(1).backward(params, cache, g)
    return result


_GLOROT = glorot_uniform()
_FAN_IN_INIT = fan_in_uniform()
_ZEROS = zeros()


@core.constructor
def multi_head_attention(
    num_heads: PositiveInt, *, dropout: Probability = 0.0, bias: bool = True,
    is_causal: bool = False, batch_first: bool = True, weight_init: Initializer = _GLOROT,
    output_weight_init: Initializer = _FAN_IN_INIT, bias_init: Initializer = _ZEROS,
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
        dropout: the probability to drop a weight during training.
        bias: whether the four projections have biases.
        is_causal: whether query i attends only to keys 0 to i, in addition to a mask.
        batch_first: whether the batch is the first axis of the sequences; if not, which is torch's
            default, the length is first and the batch second. A mask always has the batch first.
        weight_init: draws the weights of query, key and value; the default is torch's.
        output_weight_init: draws the output's weight; the default is torch's.
        bias_init: draws the biases.

    Returns:
        The layer, whose params are `layers.multi_head_attention.Params`.

    Source:
        Vaswani and others, "Attention Is All You Need", 2017, section 3.2.2.

    Example:
        >>> x = torch.zeros(2, 5, 8)
        >>> layer = multi_head_attention(4)
        >>> layer.predict(layer.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 8])
    """
    made = partial(
        _init, num_heads=num_heads, p=dropout, bias=bias, batch_first=batch_first,
        weight_init=weight_init, output_weight_init=output_weight_init, bias_init=bias_init,
    )  # fmt: skip
    heads = heads_from_the_start(num_heads, p=dropout, is_causal=is_causal)
    return core.bare(
        lambda call: composition(
            NAME,
            (_PROJECTION, _PROJECTION, _PROJECTION, heads, _PROJECTION),
            partial(there, num_heads=num_heads, batch_first=batch_first),
            back,
            gather=gather,
            init=made,
            advance=_advance,
            needs_dx=_needs_dx,
            call=call,
            arrange=_ARRANGEMENT,
            names=("query", "key", "value", "heads", "output"),
            mask="sequence",
        )
    )


def check_forward(params: Params, x: object, num_heads: int, batch_first: bool) -> Given:
    """Find the parts of x, and check that they fit each other and params."""
    check_params(NAME, params, Params)
    projections = (params.query, params.key, params.value)
    if not all(type(p) is dense.Params for p in projections):
        return _check_others(params, projections, x, num_heads, batch_first)
    try:
        features = [p.weight.shape[0] for p in projections]
    except (AttributeError, IndexError) as error:
        problem = f"expected params of dense.Params, got {core.describe(projections)}"
        raise LayerError(NAME, problem) from error
    widths = [p.weight.shape[-1] for p in projections]
    if len(set(widths)) > 1:
        problem = f"expected query, key and value weights with as many outputs, got {widths}"
        raise LayerError(NAME, problem)
    given = parts_of(params, x, Params, num_heads, features, batch_first=batch_first)
    core.check_like(NAME, "x", given.query, params.query.weight)
    return given


def _check_others(
    params: Params, projections: tuple[object, ...], x: object, num_heads: int, batch_first: bool
) -> Given:
    """Find the parts of x for projections that are other layers, which check them themselves."""
    if not all(isinstance(p, tuple) or attrs.has(type(p)) for p in projections):
        problem = f"expected params of dense.Params, got {core.describe(projections)}"
        raise LayerError(NAME, problem)
    return parts_of(params, x, Params, num_heads, None, batch_first=batch_first)
