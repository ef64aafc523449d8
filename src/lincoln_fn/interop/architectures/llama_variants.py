"""Llama's blocks with one thing changed.

Granite multiplies the embedding, the scores and what a sublayer adds by factors. SmolLM 3 has no
positions in every fourth layer. Arcee's feed-forward layer has no gate. In Cohere's Command R
attention and the feed-forward layer are beside each other, behind one norm; Command R7B has windows
in three of four layers, and positions in these alone.

The pairs of positions are neighbours in Cohere's families, GLM, Helium and Ernie 4.5. GLM turns
half of a head's features, and GLM 4 has norms behind its sublayers besides.

Source: IBM, "Granite 3.0 Language Models", 2024; Bakouch and others, "SmolLM3", 2025; Arcee, "AFM",
2025; Cohere, "Command A: An Enterprise-Ready Large Language Model", 2025; Team GLM, "ChatGLM: A
Family of Large Language Models from GLM-130B to GLM-4 All Tools", 2024; Kyutai, "Helium 1", 2025;
Baidu, "ERNIE 4.5 Technical Report", 2025.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures.family import Config, Options
from lincoln_fn.interop.architectures.llama import Style, llama_like, plain, rms_norm
from lincoln_fn.layers.common.constructors import ours

_UNGATED: Final = """
    model.layers.#.mlp.{up,down}_proj              feed_forward.{0,2}
"""
_GLM_NAMES: Final = """
    model.layers.#.mlp.gate_up_proj                feed_forward.{gate,up}
    model.layers.#.post_self_attn_layernorm        after_1
    model.layers.#.post_mlp_layernorm              after_2
"""


def _has_rope(options: Options, i: int, window: int | None) -> bool:
    kinds, interval = options.no_rope_layers, options.no_rope_layer_interval
    return bool(kinds[i]) if kinds else (i + 1) % interval != 0


def _cohere_norm(options: Options) -> Layer:
    return ours.layer_norm(eps=options.layer_norm_eps, bias=False)


_GRANITE: Final = Style(
    after=lambda options: ours.scale(options.residual_multiplier),
    attention=lambda options: {"scale": options.attention_multiplier},
    embedding_scale=lambda options: options.embedding_multiplier,
    scores=lambda options: (ours.scale(1 / options.logits_scaling),),
)
# Where it has windows, they are those of the layers without positions.
_SMOLLM: Final = Style(
    has_positions=_has_rope, has_window=lambda options, i: not _has_rope(options, i, None)
)
_COHERE: Final = Style(
    norm=_cohere_norm, last_norm=_cohere_norm, is_parallel=True, interleaved=True,
    scores=lambda options: (ours.scale(options.logit_scale),),
)  # fmt: skip
_COMMAND_R: Final[Config] = {
    "hidden_size": 8192, "intermediate_size": 22528, "layer_norm_eps": 1e-5, "logit_scale": 0.0625,
    "max_position_embeddings": 8192, "num_attention_heads": 64, "num_hidden_layers": 40,
    "pad_token_id": 0, "tie_word_embeddings": True, "vocab_size": 256000,
}  # fmt: skip
_GLM_SIZES: Final[Config] = {
    "attention_bias": True, "head_dim": 128, "intermediate_size": 13696,
    "max_position_embeddings": 131072, "num_hidden_layers": 40, "num_key_value_heads": 2,
    "pad_token_id": 151329, "partial_rotary_factor": 0.5, "rms_norm_eps": 1.5625e-07,
    "vocab_size": 151552,
}  # fmt: skip
_GLM: Final = Style(output_bias=False, names=_GLM_NAMES, interleaved=True)
FAMILIES: Final = {
    "granite": llama_like("Granite", _GRANITE, attention_multiplier=1.0, embedding_multiplier=1.0,
        logits_scaling=1.0, mlp_bias=False, residual_multiplier=1.0,
    ),
    "smollm3": llama_like(
        "SmolLM3", _SMOLLM, hidden_size=2048, layer_types=None, max_position_embeddings=32768,
        mlp_bias=False, no_rope_layer_interval=4, no_rope_layers=None, num_attention_heads=16,
        num_hidden_layers=36, num_key_value_heads=4, pad_token_id=128004, rope_theta=2000000.0,
        sliding_window=None, tie_word_embeddings=True, use_sliding_window=False, vocab_size=128256,
    ),
    "arcee": llama_like(
        "Arcee", Style(names=_UNGATED, feed_forward=plain), hidden_act="relu2", hidden_size=2560,
        intermediate_size=18432, max_position_embeddings=4096, mlp_bias=False, rms_norm_eps=1e-5,
    ),
    "cohere": llama_like(
        "Cohere", _COHERE, rope_theta=500000.0, use_qk_norm=(False,), **_COMMAND_R
    ),
    "cohere2": llama_like(
        "Cohere2", _COHERE._replace(has_positions=lambda options, i, window: window is not None),
        head_dim=128, layer_types=None, sliding_window=4096, sliding_window_pattern=4, **_COMMAND_R,
    ),
    "glm": llama_like("Glm", _GLM, **_GLM_SIZES),
    "glm4": llama_like("Glm4", _GLM._replace(after=rms_norm), **_GLM_SIZES),
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
