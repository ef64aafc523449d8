"""Families with rotary positions, layer norms and biases: GPT-NeoX, Phi, StableLM and StarCoder 2.

Source: Black and others, "GPT-NeoX-20B: An Open-Source Autoregressive Language Model", 2022;
Gunasekar and others, "Textbooks Are All You Need", 2023; Bellagente and others, "Stable LM 2 1.6B
Technical Report", 2024; Lozhkov and others, "StarCoder 2 and The Stack v2", 2024.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn.interop.architectures import _parts, llama
from lincoln_fn.interop.architectures.family import Config
from lincoln_fn.interop.architectures.llama import Style, llama_like

_NEOX: Final = """
    gpt_neox.embed_in                                      embedding
    gpt_neox.layers.#.input_layernorm                      norm_1
    gpt_neox.layers.#.attention.query_key_value            attention.{query,key,value}    grouped
    gpt_neox.layers.#.attention.dense                      attention.output
    gpt_neox.layers.#.post_attention_layernorm             norm_2
    gpt_neox.layers.#.mlp.dense_{h_to_4h,4h_to_h}          feed_forward.{0,2}
    gpt_neox.final_layer_norm                              body.#.1
    embed_out                                              head
"""
_PHI: Final = """
    model.layers.#.self_attn.dense                         attention.output
    model.layers.#.mlp.fc{1,2}                             feed_forward.{0,2}
    model.final_layernorm                                  body.#.1
"""
_STARCODER: Final = """
    model.layers.#.mlp.c_{fc,proj}                         feed_forward.{0,2}
"""
_STYLE: Final = Style(norm=_parts.norm_of, last_norm=_parts.norm_of)
_PLAIN: Final = _STYLE._replace(feed_forward=llama.plain)
_BIASES: Final[Config] = {"attention_bias": True, "layer_norm_eps": 1e-5, "mlp_bias": True}
FAMILIES: Final = {
    "gpt_neox": llama_like(
        "GPTNeoX", _PLAIN._replace(names=_NEOX, shares_norm=False),
        # Its token of padding has a gradient like any other.
        called={"hidden_dropout": ("resid_pdrop", "embd_pdrop"), "pad_token_id": (),
                "rotary_emb_base": ("rope_theta",), "rotary_pct": ("partial_rotary_factor",)},
        embd_pdrop=0.0, hidden_act="gelu", hidden_size=6144, intermediate_size=24576,
        is_decoder=(False,), num_attention_heads=64, num_hidden_layers=44,
        partial_rotary_factor=0.25, use_parallel_residual=True, vocab_size=50432, **_BIASES,
    )._replace(prefix="gpt_neox.", renamed=((r"^lm_head\.", "embed_out."),)),  # in memory
    "phi": llama_like(
        "Phi", _PLAIN._replace(names=_PHI, is_parallel=True, head_bias=True), embd_pdrop=0.0,
        hidden_act="gelu_new", hidden_size=2048, intermediate_size=8192, num_hidden_layers=24,
        partial_rotary_factor=0.5, qk_layernorm=(False,), tie_word_embeddings=(False,),
        vocab_size=51200, **_BIASES,
    ),
    "stablelm": llama_like(
        "StableLm", _STYLE._replace(output_bias=False),
        called={"use_qkv_bias": ("attention_bias",)}, hidden_dropout=(0.0,),
        hidden_size=2560, intermediate_size=6912, layer_norm_eps=1e-5, max_position_embeddings=4096,
        num_key_value_heads=32, partial_rotary_factor=0.25, qk_layernorm=(False,),
        use_parallel_residual=False, vocab_size=50304,
    ),
    "starcoder2": llama_like(
        "Starcoder2", _PLAIN._replace(names=_STARCODER),
        called={"norm_epsilon": ("layer_norm_eps",), "residual_dropout": ("resid_pdrop",),
                "embedding_dropout": ("embd_pdrop",), "use_bias": ("attention_bias", "mlp_bias")},
        embd_pdrop=0.0, hidden_act="gelu_pytorch_tanh", hidden_size=3072, intermediate_size=12288,
        max_position_embeddings=4096, num_attention_heads=24, num_hidden_layers=30,
        num_key_value_heads=2, sliding_window=None, tie_word_embeddings=True, vocab_size=49152,
        **_BIASES,
    ),
}  # fmt: skip
