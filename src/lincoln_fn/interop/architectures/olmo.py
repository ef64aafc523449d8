"""OLMo: Llama's blocks with norms that have no weights, and its successors.

OLMo 2 has norms behind its sublayers in place of before them, and one norm over the heads of all
queries and one over those of all keys. OLMo 3 has windows in three of four layers.

Source: Groeneveld and others, "OLMo: Accelerating the Science of Language Models", 2024; Team OLMo,
"2 OLMo 2 Furious", 2025; "Olmo 3", 2025.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn.combine import serial
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import llama
from lincoln_fn.interop.architectures.family import Config, Options
from lincoln_fn.layers.common.constructors import ours

NAMES: Final = """
    model.layers.#.post_{attention,feedforward}_layernorm  {after_1,after_2}
    model.layers.#.self_attn.{q,k}_norm                    attention.{query,key}_norm.2
"""


def over_all_heads(options: Options, head_dim: int) -> Layer:
    """Make the norm of the features of all heads, (batch, heads, length, features)."""
    swapped = ours.permute(0, 2, 1, 3)
    apart = ours.unflatten(2, (-1, head_dim))
    return serial(swapped, ours.flatten(2), llama.rms_norm(options), apart, swapped)


def _plain_norm(options: Options) -> Layer:
    return ours.layer_norm(eps=1e-5, elementwise_affine=False)


_SIZES: Final[Config] = {"pad_token_id": 1, "vocab_size": 50304}
_SECOND: Final = llama.Style(names=NAMES, norm=None, after=llama.rms_norm, qk_norm=over_all_heads)
_PLAIN: Final = llama.Style(norm=_plain_norm, last_norm=_plain_norm)
FAMILIES: Final = {
    "olmo": llama.llama_like("Olmo", _PLAIN, clip_qkv=(None,), **_SIZES),
    "olmo2": llama.llama_like("Olmo2", _SECOND, rms_norm_eps=1e-5, **_SIZES),
    "olmo3": llama.llama_like("Olmo3", _SECOND, **{
        **_SIZES, **llama.LOCAL_ROPE, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "sliding_window": 4096, "sliding_window_pattern": 4,
    }),
}  # fmt: skip
