"""Llama's blocks with positions whose pairs are neighbours: GLM, GLM 4, Helium and Ernie 4.5.

GLM turns half of a head's features, and GLM 4 has norms behind its sublayers besides.

Source: Team GLM, "ChatGLM: A Family of Large Language Models from GLM-130B to GLM-4 All Tools",
2024; Kyutai, "Helium 1", 2025; Baidu, "ERNIE 4.5 Technical Report", 2025.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn.interop.architectures.family import Config
from lincoln_fn.interop.architectures.llama import Style, llama_like, rms_norm

_NAMES: Final = """
    model.layers.#.mlp.gate_up_proj                feed_forward.{gate,up}
    model.layers.#.post_self_attn_layernorm        after_1
    model.layers.#.post_mlp_layernorm              after_2
"""
_SIZES: Final[Config] = {
    "attention_bias": True, "head_dim": 128, "intermediate_size": 13696,
    "max_position_embeddings": 131072, "num_hidden_layers": 40, "num_key_value_heads": 2,
    "pad_token_id": 151329, "partial_rotary_factor": 0.5, "rms_norm_eps": 1.5625e-07,
    "vocab_size": 151552,
}  # fmt: skip
_STYLE: Final = Style(output_bias=False, names=_NAMES, interleaved=True)
FAMILIES: Final = {
    "glm": llama_like("Glm", _STYLE, **_SIZES),
    "glm4": llama_like("Glm4", _STYLE._replace(after=rms_norm), **_SIZES),
    "ernie4_5": llama_like(
        "Ernie4_5", Style(interleaved=True), called={"use_bias": ("attention_bias", "mlp_bias")},
        head_dim=128, hidden_size=1024, intermediate_size=3072, max_position_embeddings=131072,
        mlp_bias=False, num_attention_heads=16, num_hidden_layers=18, num_key_value_heads=2,
        pad_token_id=0, rms_norm_eps=1e-5, rope_theta=500000.0, tie_word_embeddings=True,
        vocab_size=103424,
    ),
    "helium": llama_like(
        "Helium", Style(output_bias=False, interleaved=True), head_dim=128, hidden_size=2560,
        intermediate_size=7040, max_position_embeddings=4096, mlp_bias=False,
        num_attention_heads=20, num_hidden_layers=24, pad_token_id=3, rms_norm_eps=1e-8,
        rope_theta=100000.0, vocab_size=48000,
    ),
}  # fmt: skip
