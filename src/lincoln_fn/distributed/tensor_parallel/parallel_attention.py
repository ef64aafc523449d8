"""Multi-head attention whose heads are divided among processes.

Process r has some of the heads: their columns of W_q, W_k and W_v, and their rows of W_o:

    heads_r = attention of its heads(query W_(q, r) + b_(q, r), ...)
    y = sum_r heads_r W_(o, r) + b_o

The first three products are column-parallel and the last is row-parallel, so forward adds up y.

Derivation. `layers/multi_head_attention.py` derives what each process makes of g. All heads depend
on the same query, key and value, so as in `parallel_dense.py`

    dquery = sum_r dquery_r    and likewise dkey and dvalue

In self-attention, dx_r = dquery_r + dkey_r + dvalue_r is added up at once: one sum in each
direction. A floating mask has a gradient, too. A mask for all heads has the sum of the processes'
gradients. A mask with an entry for each head is divided as the heads are, and its gradients are
joined.

Cache: multi-head attention's own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, PositiveInt, Probability, Sequence, bare, constructor
from lincoln_fn.distributed.group import Group, check_divisible
from lincoln_fn.distributed.tensor_parallel import parallel_dense
from lincoln_fn.distributed.tensor_parallel.collectives import join_parts, sum_over, take_own_part
from lincoln_fn.initializers import Initializer, fan_in_uniform, glorot_uniform, zeros
from lincoln_fn.layers import attention_heads, dropout
from lincoln_fn.layers.common import attention
from lincoln_fn.layers.common.attention_forms import Gradients, Inputs
from lincoln_fn.layers.multi_head_attention import Params, multi_head_attention
from lincoln_fn.walk.internal import Back, Record, VisitBack, VisitThere, around, composition_of

NAME = "parallel_attention"


@core.record
class HeadsCache:
    """The own heads' cache, and whether the mask had an entry for each head."""

    heads: Record
    divides_mask: bool = core.static()


def heads_there(
    visit: VisitThere,
    params: dropout.Params | None,
    x: tuple[Sequence, Sequence, Sequence, attention.Mask | None],
    *,
    group: Group,
) -> tuple[Sequence, HeadsCache]:
    """Compute the attention of the own heads."""
    query, key, value, mask = x
    divides_mask = mask is not None and mask.shape[-3] > 1
    if mask is not None and divides_mask:
        mask = take_own_part(mask, group, -3)
    y, heads = visit(0, params, (query, key, value, mask))
    return y, HeadsCache(heads, divides_mask)


def heads_back(
    visit: VisitBack,
    params: dropout.Params | None,
    cache: HeadsCache,
    g: Sequence,
    *,
    group: Group,
) -> tuple[tuple[Tensor | None, ...], Record]:
    """Compute the gradients of the own heads' inputs, and dmask of all heads."""
    core.check_cache("parallel_heads", cache, HeadsCache)
    (*dinputs, dmask), heads = visit(0, params, cache.heads, g)
    if dmask is not None:
        divides = cache.divides_mask
        dmask = join_parts(dmask, group, -3) if divides else sum_over(dmask, group)
    return (*dinputs, dmask), heads


def back(
    visit: VisitBack, params: Params, cache: Record, g: Sequence, *, group: Group, whole: Back
) -> tuple[Gradients | None, tuple[Record, ...]]:
    """Compute dquery = sum_r dquery_r, and likewise dkey and dvalue."""
    dx, records = whole(visit, params, cache, g)
    if dx is None:
        return None, records
    if isinstance(dx, Tensor):
        return sum_over(dx, group), records
    count = 1 if len(dx) == 2 else 3  # then follows dmask
    dinputs = (sum_over(part, group) for part in dx[:count] if part is not None)
    return (*dinputs, *dx[count:]), records


def _init_own(
    parts: tuple[Layer, ...], key: Key, x: Inputs, *, whole: Layer, group: Group
) -> Params:
    """Copy the own heads' columns and rows of all weights, so that the whole can be freed."""
    params = whole.init(key, x)
    projections = params.query, params.key, params.value
    q, k, v = (parallel_dense.copy_own_columns(each, group) for each in projections)
    return Params(q, k, v, parallel_dense.copy_own_rows(params.output, group), params.dropout)


def _advance_heads(visit: VisitThere, params: dropout.Params | None, cache: HeadsCache) -> Record:
    return visit.advance(0, params, cache.heads)


# Any: the keywords of the heads' `forward`.
def _forward_dropped(
    params: dropout.Params | None, x: attention.Inputs, *, group: Group, **options: Any
) -> tuple[Sequence, attention_heads.Cache]:
    """Compute the own heads, with their part of the mask that one process draws."""
    drop = partial(parallel_dense.forward, group=group, axis=-3)
    return attention_heads.forward(params, x, drop=drop, **options)


def _make_own_heads(num_heads: int, group: Group, p: float, is_causal: bool) -> Layer:
    own = num_heads // group.size
    heads = attention_heads.attention_heads(
        own, is_causal=is_causal, dropout=p, is_aligned_at_end=False
    )
    if p:
        # A function of this file: `lf.fast` has another one for that of the heads.
        forward = core.bind_like(partial(_forward_dropped, group=group), heads.forward)
        heads = heads.replace(forward=forward, predict=heads.predict)
    loops = partial(heads_there, group=group), partial(heads_back, group=group)
    return around("parallel_heads", heads, *loops, advance=_advance_heads)


@constructor
def parallel_attention(
    num_heads: PositiveInt,
    group: Group,
    *,
    dropout: Probability = 0.0,
    bias: bool = True,
    is_causal: bool = False,
    batch_first: bool = True,
    weight_init: Initializer = glorot_uniform(),
    output_weight_init: Initializer = fan_in_uniform(),
    bias_init: Initializer = zeros(),
) -> Layer:
    """Divide the heads of multi-head attention among processes.

    All processes have the same x, in the forms that `lf.multi_head_attention` takes, and get the
    same y. Forward adds up y, and backward dx, so all processes must call them. Dropout draws for
    each head what one process would draw. Its arguments are those of `lf.multi_head_attention`;
    num_heads is a multiple of the number of processes, and initializers draw the whole weights. The
    params are `layers.multi_head_attention.Params`, where query, key and value have 1 / n of their
    columns for n processes, and output has 1 / n of its rows. The parts of all processes together
    are what `lf.multi_head_attention` draws from the same key.

    Source:
        Shoeybi and others, "Megatron-LM", 2019, section 3.

    Example:
        >>> group, x = lf.distributed.alone(), torch.zeros(2, 5, 8)
        >>> layer = parallel_attention(4, group)
        >>> layer, layer.predict(layer.init(lf.Key(0), x), x).shape
        (parallel_attention(4, group), torch.Size([2, 5, 8]))
    """
    check_divisible(NAME, "num_heads", num_heads, group)
    whole = multi_head_attention(
        num_heads, dropout=dropout, bias=bias, is_causal=is_causal, batch_first=batch_first,
        weight_init=weight_init, output_weight_init=output_weight_init, bias_init=bias_init,
    )  # fmt: skip
    heads = _make_own_heads(num_heads, group, dropout, is_causal)
    own = composition_of(whole)
    assert own is not None
    go_back = partial(back, group=group, whole=own.back)
    init = partial(_init_own, whole=whole, group=group)
    parts = *whole.parts[:3], heads, parallel_dense.divide_rows(whole.parts[4], group)
    return bare(lambda call: whole.rebuild(parts, back=go_back, init=init, call=call))
