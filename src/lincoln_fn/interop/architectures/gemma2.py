"""Gemma 2: norms before and after each sublayer, capped scores, and windows in every other layer.

Source: Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from lincoln_fn.combine.branch import residual
from lincoln_fn.combine.context import select, with_context
from lincoln_fn.combine.gated_feed_forward import geglu
from lincoln_fn.combine.parallel import parallel
from lincoln_fn.combine.serial import serial
from lincoln_fn.core.layer import Layer
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures._rope import ROPE_TYPES, rotary, with_rope
from lincoln_fn.interop.architectures.family import Family, Network, Options, linear, plain
from lincoln_fn.interop.architectures.llama import (
    DEFAULTS,
    FREQUENCIES,
    INPUTS,
    attention_slots,
    feed_forward_slots,
    windows_of,
)
from lincoln_fn.interop.names import Slot
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.embedding import embedding
from lincoln_fn.layers.grouped_query_attention import grouped_query_attention
from lincoln_fn.layers.identity import identity
from lincoln_fn.layers.rms_norm import rms_norm
from lincoln_fn.layers.scale import scale
from lincoln_fn.layers.softcap import softcap


def _norm(options: Options) -> Layer:
    return rms_norm(eps=options.rms_norm_eps, offset=1.0)


def _block(options: Options, window: int | None) -> Layer:
    attention = grouped_query_attention(
        options.num_attention_heads,
        options.num_key_value_heads,
        head_dim=options.head_dim,
        positions=rotary(options, options.head_dim),
        bias=options.attention_bias,
        sliding_window=window,
        softcap=options.attn_logit_softcapping,
        scale=options.query_pre_attn_scalar**-0.5,
        dropout=options.attention_dropout,
    )
    norm, feed_forward = _norm(options), geglu(options.intermediate_size, "tanh")
    return serial(
        residual(serial(parallel(norm, identity()), attention, norm), select(0)),
        residual(serial(norm, feed_forward, norm)),
    )


def _block_slots(name: str, path: str) -> list[Slot]:
    return [
        *plain(f"{name}.input_layernorm", f"{path}.0.0.0.0"),
        *attention_slots(f"{name}.self_attn", f"{path}.0.0.1"),
        *plain(f"{name}.post_attention_layernorm", f"{path}.0.0.2"),
        *plain(f"{name}.pre_feedforward_layernorm", f"{path}.1.0.0"),
        *feed_forward_slots(f"{name}.mlp", f"{path}.1.0.1"),
        *plain(f"{name}.post_feedforward_layernorm", f"{path}.1.0.2"),
    ]


def _windows(options: Options) -> list[int | None]:
    n, kinds = options.num_hidden_layers, options.layer_types
    if kinds is None:
        kinds = [("sliding_attention", "full_attention")[i % 2] for i in range(n)]
    return windows_of(kinds, options.sliding_window, n)


def _head(options: Options, *, ties: bool) -> list[Layer]:
    cap = options.final_logit_softcapping
    return [
        *(() if ties else (dense(options.vocab_size, bias=False),)),
        *(() if cap is None else (softcap(cap),)),
    ]


def _network(options: Options, *, has_head: bool) -> Network:
    ties = has_head and options.tie_word_embeddings
    blocks = [_block(options, window) for window in _windows(options)]
    body = with_context(
        serial(select(0), scale(options.hidden_size**0.5)),
        *blocks,
        serial(select(0), _norm(options)),
    )
    tokens = embedding(options.vocab_size, options.hidden_size, options.pad_token_id)
    head = _head(options, ties=ties) if has_head else []
    placed = _parts.of_tokens(INPUTS, tokens, body, serial(*head) if head else None, ties=ties)
    prefix = "model." if has_head else ""
    slots = [
        *plain(f"{prefix}embed_tokens", placed.embedding),
        *(
            slot
            for i in range(len(blocks))
            for slot in _block_slots(f"{prefix}layers.{i}", f"{placed.body}.{i + 1}")
        ),
        *plain(f"{prefix}norm", f"{placed.body}.{len(blocks) + 1}.1"),
        *(linear("lm_head", f"{placed.head}.0") if has_head and not ties else ()),
    ]
    copies = {"lm_head.weight": "model.embed_tokens.weight"} if ties else {}
    return Network(placed.net, slots, _parts.token_ids(), (FREQUENCIES,), copies)


GEMMA2: Final = Family(
    defaults={
        **DEFAULTS,
        "attention_bias": False,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "layer_types": None,
        "max_position_embeddings": 8192,
        "num_attention_heads": 8,
        "num_hidden_layers": 26,
        "num_key_value_heads": 4,
        "pad_token_id": 0,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
        "use_bidirectional_attention": None,
        "vocab_size": 256000,
    },
    supported={
        "hidden_activation": ("gelu_pytorch_tanh", None),
        "rope_type": ROPE_TYPES,
        "use_bidirectional_attention": (None, False),
    },
    architectures={
        "Gemma2Model": partial(_network, has_head=False),
        "Gemma2ForCausalLM": partial(_network, has_head=True),
    },
    prefix="model.",
    # hidden_activation takes its place. The cache's form changes no number.
    harmless=frozenset({"hidden_act", "cache_implementation"}),
    flattened=with_rope,
)
