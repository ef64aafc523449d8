"""Gemma 2: norms before and after each sublayer, capped scores, and windows in every other layer.

Source: Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from lincoln_fn.combine import geglu, parallel, residual, select, serial, with_context
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures._rope import ROPE_TYPES, rotary, with_rope
from lincoln_fn.interop.architectures.family import Family, Network, Options
from lincoln_fn.interop.architectures.llama import DEFAULTS, FREQUENCIES, llama_model, windows_of
from lincoln_fn.layers.grouped_query_attention import grouped_query_attention
from lincoln_fn.layers.identity import identity
from lincoln_fn.layers.rms_norm import rms_norm
from lincoln_fn.layers.scale import scale
from lincoln_fn.layers.softcap import softcap

_NAMES: Final = """
    model.embed_tokens                               embedding
    model.layers.#.input_layernorm                   body.#+1.0.0.0.0
    model.layers.#.self_attn.{q,k,v,o}_proj          body.#+1.0.0.1.{query,key,value,output}
    model.layers.#.post_attention_layernorm          body.#+1.0.0.2
    model.layers.#.{pre,post}_feedforward_layernorm  body.#+1.1.0.{0,2}
    model.layers.#.mlp.{gate,up,down}_proj           body.#+1.1.0.1.{gate,up,down}
    model.norm                                       body.#.1
    lm_head                                          head.0
"""


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


def _windows(options: Options) -> list[int | None]:
    n, kinds = options.num_hidden_layers, options.layer_types
    if kinds is None:
        kinds = [("sliding_attention", "full_attention")[i % 2] for i in range(n)]
    return windows_of(kinds, options.sliding_window, n)


def _network(options: Options, *, has_head: bool) -> Network:
    body = with_context(
        serial(select(0), scale(options.hidden_size**0.5)),
        *(_block(options, window) for window in _windows(options)),
        serial(select(0), _norm(options)),
    )
    cap = options.final_logit_softcapping
    return llama_model(options, body, () if cap is None else (softcap(cap),), has_head=has_head)


GEMMA2: Final = Family(
    defaults={
        **DEFAULTS, "attention_bias": False, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 2304, "intermediate_size": 9216, "layer_types": None,
        "max_position_embeddings": 8192, "num_attention_heads": 8, "num_hidden_layers": 26,
        "num_key_value_heads": 4, "pad_token_id": 0, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "tie_word_embeddings": True, "use_bidirectional_attention": None,
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
    names=_NAMES,
    prefix="model.",
    unused=(FREQUENCIES,),
    # hidden_activation takes its place. The cache's form changes no number.
    harmless=frozenset({"hidden_act", "cache_implementation"}),
    flattened=with_rope,
)  # fmt: skip
