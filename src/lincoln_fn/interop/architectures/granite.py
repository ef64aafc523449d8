"""Llama's blocks with one thing changed: Granite, SmolLM 3 and Arcee.

Granite multiplies the embedding, the scores and what a sublayer adds by factors. SmolLM 3 has no
positions in every fourth layer. Arcee's feed-forward layer has no gate.

Source: IBM, "Granite 3.0 Language Models", 2024; Bakouch and others, "SmolLM3", 2025; Arcee, "AFM",
2025.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn.interop.architectures.family import Options
from lincoln_fn.interop.architectures.llama import Style, llama_like, plain
from lincoln_fn.layers.common.constructors import ours

_NAMES: Final = """
    model.layers.#.mlp.{up,down}_proj              feed_forward.{0,2}
"""


def _has_rope(options: Options, i: int, window: int | None) -> bool:
    kinds, interval = options.no_rope_layers, options.no_rope_layer_interval
    return bool(kinds[i]) if kinds else (i + 1) % interval != 0


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
        "Arcee", Style(names=_NAMES, feed_forward=plain), hidden_act="relu2", hidden_size=2560,
        intermediate_size=18432, max_position_embeddings=4096, mlp_bias=False, rms_norm_eps=1e-5,
    ),
}  # fmt: skip
