"""Qwen 3 MoE and OLMoE: a router chooses several of many narrow feed-forward layers per token.

Source: Qwen Team, "Qwen3 Technical Report", 2025; Muennighoff and others, "OLMoE: Open
Mixture-of-Experts Language Models", 2024.
"""

from __future__ import annotations

from typing import Any, Final

from lincoln_fn.combine import mixture_of_experts, swiglu
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import llama, olmo
from lincoln_fn.interop.architectures.family import Config, Family, Options
from lincoln_fn.layers.common.constructors import ours

_NAMES: Final = """
    model.layers.#.mlp.gate                             feed_forward.router
    model.layers.#.mlp.experts.#.{gate,up,down}_proj    feed_forward.experts.#.{gate,up,down}
"""


def _experts(options: Options) -> Layer:
    n = options.num_experts
    return mixture_of_experts(
        ours.dense(n, bias=False),
        (swiglu(options.moe_intermediate_size),) * n,
        top_k=options.num_experts_per_tok,
        norm_topk_prob=options.norm_topk_prob,
    )


def _family(name: str, style: llama.Style, only: dict[str, Any], **defaults: Any) -> Family:
    called: Config = {"num_local_experts": "num_experts"}
    if name == "Olmoe":
        called = {**called, "intermediate_size": "moe_intermediate_size"}
    style = style._replace(names=_NAMES + style.names, feed_forward=_experts)
    family = llama.llama_like(
        name, style, called=called, attention_bias=False, norm_topk_prob=False,
        num_experts_per_tok=8, **{key: values[0] for key, values in only.items()}, **defaults,
    )  # fmt: skip
    return family._replace(
        supported={**family.supported, **only, "hidden_act": ("silu", "swish")},
        stacked=(
            (r"\.experts\.gate_up_proj$", (
                ".experts.{}.gate_proj.weight", ".experts.{}.up_proj.weight",
            )),
            (r"\.experts\.down_proj$", (".experts.{}.down_proj.weight",)),
        ),
        harmless=frozenset({"output_router_logits", "router_aux_loss_coef", "max_window_layers"}),
    )  # fmt: skip


FAMILIES: Final = {
    "qwen3_moe": _family(
        "Qwen3Moe", llama.Style(qk_norm=llama.qk_norm),
        # Layers without experts are not known.
        {
            "decoder_sparse_step": (1,), "mlp_only_layers": ([], None),
            "use_sliding_window": (False,),
        },
        hidden_size=2048, intermediate_size=6144, max_position_embeddings=32768,
        moe_intermediate_size=768, num_experts=128, num_hidden_layers=24, num_key_value_heads=4,
        sliding_window=None, vocab_size=151936,
    ),
    "olmoe": _family(
        "Olmoe", llama.Style(names=olmo.NAMES, qk_norm=olmo.over_all_heads), {"clip_qkv": (None,)},
        hidden_size=2048, max_position_embeddings=4096, moe_intermediate_size=2048, num_experts=64,
        num_attention_heads=16, num_hidden_layers=16, pad_token_id=1, rms_norm_eps=1e-5,
        vocab_size=50304,
    ),
}  # fmt: skip
