"""How attention decodes: the keys and values of earlier positions are kept.

The queries of a step attend to the kept keys and to their own,

    y_i = attention(query_i, the keys at positions up to i, their values)

by the layer's own formula, with a mask in the place of `is_causal`; a layer without heads has one.
With a sliding window only the last keys are kept: those of position t are in slot t mod window. So
before position n, slot s has

    p = n - 1 - (n - 1 - s) mod window    and nothing, if p < 0
"""

from __future__ import annotations

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, LayerError, Like, Params, record, static
from lincoln_fn.decoding.row import Row, Rows
from lincoln_fn.layers import attention_heads, scaled_dot_product_attention
from lincoln_fn.layers.attention_heads import grouped, merge_heads, split_heads, ungrouped


@record
class KeyValue:
    """The keys and values of earlier positions, by head."""

    key: Float[Tensor, "*batch heads slots features"]
    value: Float[Tensor, "*batch heads slots n_out"]
    window: int | None = static()


def _init(
    params: Params, x: Arrays, *, axis: int, max_length: int, is_causal: bool, num_heads: int = 1,
    num_kv_heads: int | None = None, sliding_window: int | None = None, **options: object,
) -> KeyValue:  # fmt: skip
    if axis != -2:
        raise LayerError("", f"attends along axis -2, but the positions are in axis {axis}")
    if not is_causal:
        raise LayerError("", "attends to later positions; make it with is_causal=True")
    _, key, value, *mask = x
    if mask and mask[0] is not None:
        raise LayerError("", "has a mask for the text; leave it out")
    slots = min(max_length, sliding_window or max_length)
    window = sliding_window if slots < max_length else None

    def empty(t: Tensor) -> Tensor:
        t = split_heads(t, num_kv_heads or num_heads)
        return t.new_zeros(*t.shape[:-2], slots, t.shape[-1])

    return KeyValue(empty(key), empty(value), window)


def _step(
    params: Params, state: KeyValue, x: Arrays, *, position: Tensor, num_heads: int = 1,
    num_kv_heads: int | None = None, scale: float | None, softcap: float | None = None,
    **options: object,
) -> tuple[Tensor, KeyValue]:  # fmt: skip
    """Compute attention to the kept keys and to those of this step."""
    counts = num_heads, num_kv_heads or num_heads, num_kv_heads or num_heads
    query, key, value = (split_heads(t, n) for t, n in zip(x[:3], counts, strict=True))
    own = position + torch.arange(query.shape[-2], device=query.device)
    slots, window = torch.arange(state.key.shape[-2], device=query.device), state.window
    if window is None:
        seen = after = _written(state, key, value, own)
        allowed = slots <= own[:, None]
    else:
        after = _written(
            state, key[..., -window:, :], value[..., -window:, :], own[-window:] % window
        )
        # The slots are used again: the first queries of a step still need what they held.
        seen = KeyValue(
            torch.cat([state.key, key], -2), torch.cat([state.value, value], -2), window
        )
        last = position - 1
        at = torch.cat([last - (last - slots) % window, own])
        allowed = (at >= 0) & (at <= own[:, None]) & (own[:, None] - at < window)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    form = (Like.of(query), False, None, softcap, scale, True, 4)
    cache = attention_heads.Cache(query * scale, seen.key, seen.value, allowed, None, *form)
    weights, _ = attention_heads.weights_and_slope(cache)
    return merge_heads(ungrouped(grouped(weights, seen.key) @ seen.value, query)), after


def _written(state: KeyValue, key: Tensor, value: Tensor, slots: Tensor) -> KeyValue:
    return KeyValue(
        state.key.index_copy(-2, slots, key), state.value.index_copy(-2, slots, value), state.window
    )


_ROW: Final = Row(_init, _step)
ROWS: Final[Rows] = {attention_heads: _ROW, scaled_dot_product_attention: _ROW}
