"""Cohere's Command R: attention and the feed-forward layer beside each other, behind one norm.

Command R7B has windows in three of four layers, and positions in these alone.

Source: Cohere, "Command A: An Enterprise-Ready Large Language Model", 2025.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import llama
from lincoln_fn.interop.architectures.family import Config, Options
from lincoln_fn.layers.common.constructors import ours


def _norm(options: Options) -> Layer:
    return ours.layer_norm(eps=options.layer_norm_eps, bias=False)


_STYLE: Final = llama.Style(
    norm=_norm, last_norm=_norm, is_parallel=True, interleaved=True,
    scores=lambda options: (ours.scale(options.logit_scale),),
)  # fmt: skip
_SIZES: Final[Config] = {
    "hidden_size": 8192, "intermediate_size": 22528, "layer_norm_eps": 1e-5, "logit_scale": 0.0625,
    "max_position_embeddings": 8192, "num_attention_heads": 64, "num_hidden_layers": 40,
    "pad_token_id": 0, "tie_word_embeddings": True, "vocab_size": 256000,
}  # fmt: skip
FAMILIES: Final = {
    "cohere": llama.llama_like(
        "Cohere", _STYLE, rope_theta=500000.0, use_qk_norm=(False,), **_SIZES
    ),
    "cohere2": llama.llama_like(
        "Cohere2", _STYLE._replace(has_positions=lambda options, i, window: window is not None),
        head_dim=128, layer_types=None, sliding_window=4096, sliding_window_pattern=4, **_SIZES,
    ),
}  # fmt: skip
