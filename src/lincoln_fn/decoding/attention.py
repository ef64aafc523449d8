"""How attention decodes: the keys and values of earlier positions are kept.

The queries of a step attend to the kept keys and to their own,

    y_i = attention(query_i, the keys at positions up to i, their values)

by the layer's own formula, with a mask in the place of `is_causal`. With a sliding window only the
last keys are kept: those of position t are in slot t mod window. So before position n, slot s has

    p = n - 1 - (n - 1 - s) mod window    and nothing, if p < 0
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import LayerError, Params, record, static
from lincoln_fn.decoding.row import Row, Rows
from lincoln_fn.layers import attention_heads, scaled_dot_product_attention


@record
class KeyValue:
    """The keys and values of earlier positions."""

    key: Float[Tensor, "*batch slots features"]
    value: Float[Tensor, "*batch slots n_out"]
    window: int | None = static()


# (keys or values, hyperparameters) -> these as they are kept
Split: TypeAlias = Callable[[Tensor, dict[str, Any]], Tensor]
# (query, kept keys, kept values, mask, hyperparameters) -> y
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, dict[str, Any]], Tensor]


# Any: a sequence or a mask; and the hyperparameters of each kind of attention.
def _init(
    params: Params, x: tuple[Any, ...], *, axis: int, max_length: int, split: Split,
    is_causal: bool, sliding_window: int | None = None, **options: Any,
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
        t = split(t, options)
        return t.new_zeros(*t.shape[:-2], slots, t.shape[-1])

    return KeyValue(empty(key), empty(value), window)


def _step(
    params: Params, state: KeyValue, x: tuple[Any, ...], *, position: Tensor, split: Split,
    attend: Attend, **options: Any,
) -> tuple[Tensor, KeyValue]:  # fmt: skip
    """Compute attention to the kept keys and to those of this step."""
    query, key, value, *_ = x
    key, value = split(key, options), split(value, options)
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
    return attend(query, seen.key, seen.value, allowed, options), after


def _written(state: KeyValue, key: Tensor, value: Tensor, slots: Tensor) -> KeyValue:
    """Put keys and values into their slots."""
    return KeyValue(
        state.key.index_copy(-2, slots, key), state.value.index_copy(-2, slots, value), state.window
    )


# Any: the hyperparameters.
def _split_heads(t: Tensor, options: dict[str, Any]) -> Tensor:
    return attention_heads.split_heads(t, options["num_kv_heads"] or options["num_heads"])


def _attend_by_heads(
    query: Tensor, k: Tensor, v: Tensor, mask: Tensor, options: dict[str, Any]
) -> Tensor:
    """Compute what `attention_heads.forward` does, of keys and values that are split already."""
    num_heads, scale = options["num_heads"], options["scale"]
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1] // num_heads)
    q = attention_heads.split_heads(query, num_heads) * scale
    form = (False, None, options["softcap"], scale, True, 4)
    weights, _ = attention_heads.weights_and_slope(
        attention_heads.Cache(q, k, v, mask, None, *form)
    )
    y = attention_heads.ungrouped(attention_heads.grouped(weights, k) @ v, q)
    return attention_heads.merge_heads(y)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, options: dict[str, Any]
) -> Tensor:
    x = query, key, value, mask
    return scaled_dot_product_attention.forward((), x, is_causal=False, scale=options["scale"])[0]


def _row(split: Split, attend: Attend) -> Row:
    return Row(partial(_init, split=split), partial(_step, split=split, attend=attend))


ROWS: Final[Rows] = {
    attention_heads: _row(_split_heads, _attend_by_heads),
    scaled_dot_product_attention: _row(lambda t, options: t, _attend),
}
