"""Gemma: a scaled embedding, and norms whose weights are the distance of their scale from 1.

Gemma 2 has norms before and after each sublayer, capped scores, and windows in every other layer.
Gemma 3 has norms of queries and keys in the caps' place, and positions of their own in windows.

Source: Gemma Team, "Gemma: Open Models Based on Gemini Research and Technology", 2024; "Gemma 2:
Improving Open Language Models at a Practical Size", 2024; "Gemma 3 Technical Report", 2025.
"""

from __future__ import annotations

from typing import Any, Final

from lincoln_fn.combine import geglu
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import llama
from lincoln_fn.interop.architectures.family import Config, Options
from lincoln_fn.layers.common.constructors import ours

_NAMES: Final = """
    model.layers.#.post_attention_layernorm          after_1
    model.layers.#.{pre,post}_feedforward_layernorm  {norm_2,after_2}
"""


def _norm(options: Options) -> Layer:
    return ours.rms_norm(eps=options.rms_norm_eps, offset=1.0)


def _attention(options: Options) -> dict[str, Any]:  # Any: arguments of any kind
    cap = options.attn_logit_softcapping
    return {"softcap": cap, "scale": options.query_pre_attn_scalar**-0.5}


def _scores(options: Options) -> tuple[Layer, ...]:
    cap = options.final_logit_softcapping
    return () if cap is None else (ours.softcap(cap),)


_FIRST: Final = llama.Style(
    norm=_norm, last_norm=_norm, embedding_scale=lambda options: options.hidden_size**0.5
)
_SECOND: Final = _FIRST._replace(
    names=_NAMES, after=_norm, attention=_attention, scores=_scores,
    feed_forward=lambda options: geglu(options.intermediate_size, "tanh"),
)  # fmt: skip
_THIRD: Final = _SECOND._replace(qk_norm=lambda options, head_dim: _norm(options))
_SIZES: Final[Config] = {
    "head_dim": 256, "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4,
    "pad_token_id": 0, "tie_word_embeddings": True, "use_bidirectional_attention": (None, False),
}  # fmt: skip
# `hidden_activation` is in the place of hidden_act, which configs have besides.
_LATER: Final[Config] = {
    **_SIZES, "hidden_activation": ("gelu_pytorch_tanh", None), "hidden_size": 2304,
    "intermediate_size": 9216, "layer_types": None, "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}  # fmt: skip
_GEMMA3: Final = llama.llama_like("Gemma3", _THIRD, **{
    # The caps of its attention are not read.
    **_LATER, **llama.LOCAL_ROPE, "attn_logit_softcapping": (None,),
    "final_logit_softcapping": None, "max_position_embeddings": 131072,
    "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6, "vocab_size": 262208,
})  # fmt: skip
FAMILIES: Final = {
    "gemma": llama.llama_like("Gemma", _FIRST, **{
        **_SIZES, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 3072,
        "intermediate_size": 24576, "max_position_embeddings": 8192, "num_attention_heads": 16,
        "num_hidden_layers": 28, "num_key_value_heads": 16, "vocab_size": 256000,
    }),
    "gemma2": llama.llama_like(
        "Gemma2", _SECOND, attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
        max_position_embeddings=8192, sliding_window_pattern=2, vocab_size=256000, **_LATER,
    ),
    "gemma3_text": _GEMMA3._replace(architectures={
        name.replace("Gemma3Model", "Gemma3TextModel"): make
        for name, make in _GEMMA3.architectures.items()
    }),
}  # fmt: skip
