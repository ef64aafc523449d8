"""Gemma 2: norms before and after each sublayer, capped scores, and windows in every other layer.

Source: Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn.combine import geglu, parallel, residual, select, serial, with_context
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import _parts, llama
from lincoln_fn.interop.architectures.family import Network, Options
from lincoln_fn.layers.common.constructors import ours

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
    return ours.rms_norm(eps=options.rms_norm_eps, offset=1.0)


def _block(options: Options, window: int | None) -> Layer:
    attention = llama.attention(
        options,
        window,
        bias=options.attention_bias,
        softcap=options.attn_logit_softcapping,
        scale=options.query_pre_attn_scalar**-0.5,
    )
    norm, feed_forward = _norm(options), geglu(options.intermediate_size, "tanh")
    return serial(
        residual(serial(parallel(norm, ours.identity()), attention, norm), select(0)),
        residual(serial(norm, feed_forward, norm)),
    )


def _windows(options: Options) -> list[int | None]:
    n, kinds = options.num_hidden_layers, options.layer_types
    if kinds is None:
        kinds = [("sliding_attention", "full_attention")[i % 2] for i in range(n)]
    return llama.windows_of(kinds, options.sliding_window, n)


def _network(options: Options, *, has_head: bool) -> Network:
    body = with_context(
        serial(select(0), ours.scale(options.hidden_size**0.5)),
        *(_block(options, window) for window in _windows(options)),
        serial(select(0), _norm(options)),
    )
    cap = options.final_logit_softcapping
    scores = () if cap is None else (ours.softcap(cap),)
    return llama.model(options, body, scores, has_head=has_head)


_LIKE_LLAMA: Final = llama.llama_like(
    "Gemma2", llama.Style(), attention_bias=False, attn_logit_softcapping=50.0,
    final_logit_softcapping=30.0, head_dim=256, hidden_activation="gelu_pytorch_tanh",
    hidden_size=2304, intermediate_size=9216, layer_types=None, max_position_embeddings=8192,
    num_attention_heads=8, num_hidden_layers=26, num_key_value_heads=4, pad_token_id=0,
    query_pre_attn_scalar=256, sliding_window=4096, tie_word_embeddings=True,
    use_bidirectional_attention=None, vocab_size=256000,
)  # fmt: skip
FAMILIES: Final = {"gemma2": _LIKE_LLAMA._replace(
    supported={
        **_LIKE_LLAMA.supported,
        # In the place of hidden_act, which configs have besides.
        "hidden_activation": ("gelu_pytorch_tanh", None),
        "use_bidirectional_attention": (None, False),
    },
    architectures=_parts.models("Gemma2", _network),
    names=_NAMES,
    harmless=frozenset({"cache_implementation"}),  # the cache's form changes no number
)}  # fmt: skip
