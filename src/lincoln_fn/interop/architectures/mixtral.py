"""Mixtral, Qwen 3 MoE and OLMoE: a router chooses several feed-forward layers per token.

Source: Jiang and others, "Mixtral of Experts", 2024; Qwen Team, "Qwen3 Technical Report", 2025;
Muennighoff and others, "OLMoE: Open Mixture-of-Experts Language Models", 2024.
"""

from __future__ import annotations

from typing import Any, Final

from lincoln_fn.combine import mixture_of_experts
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import olmo
from lincoln_fn.interop.architectures.family import Family, Options
from lincoln_fn.interop.architectures.llama import Style, gated, llama_like, qk_norm
from lincoln_fn.layers.common.constructors import ours


def _experts(options: Options) -> Layer:
    n, k = options.num_experts, options.num_experts_per_tok
    router, experts = ours.dense(n, bias=False), (gated(options),) * n
    return mixture_of_experts(router, experts, top_k=k, norm_topk_prob=options.norm_topk_prob)


def _family(
    name: str, style: Style, *, mlp: str = "mlp",
    matrices: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    **options: Any,  # as in `Config`
) -> Family:  # fmt: skip
    """Make a family whose experts are at `mlp` in the file, with these names of their matrices."""
    names = f"""
        model.layers.#.{mlp}.gate    feed_forward.router
        model.layers.#.{mlp}.experts.#.{{{",".join(matrices)}}} feed_forward.experts.#.{{gate,up,down}}
    """  # noqa: E501
    gate, up, down = (f".{mlp}.experts.{{}}.{matrix}.weight" for matrix in matrices)
    in_memory = r"\.mlp\.experts\."
    return llama_like(
        name, style._replace(names=names + style.names, feed_forward=_experts), **options
    )._replace(
        renamed=((r"\.mlp\.", f".{mlp}."),),
        stacked=((rf"{in_memory}gate_up_proj$", (gate, up)), (rf"{in_memory}down_proj$", (down,))),
    )


FAMILIES: Final = {
    "mixtral": _family(
        "Mixtral", Style(), mlp="block_sparse_moe", matrices=("w1", "w3", "w2"),
        called={"num_local_experts": ("num_experts",)}, attention_bias=(False,),
        intermediate_size=14336,
        max_position_embeddings=131072, norm_topk_prob=(True,), num_experts=8,
        num_experts_per_tok=2, num_key_value_heads=8, rms_norm_eps=1e-5, rope_theta=1e6,
        router_jitter_noise=(0.0,), sliding_window=None,
    ),
    "qwen3_moe": _family(
        # Layers without experts, whose size is the other one, are not known.
        "Qwen3Moe", Style(qk_norm=qk_norm), decoder_sparse_step=(1,), mlp_only_layers=([], None),
        called={"intermediate_size": (), "moe_intermediate_size": ("intermediate_size",),
                "num_local_experts": ("num_experts",)},
        hidden_size=2048, intermediate_size=768,
        max_position_embeddings=32768, max_window_layers=28, norm_topk_prob=False, num_experts=128,
        num_experts_per_tok=8, num_hidden_layers=24, num_key_value_heads=4, sliding_window=None,
        use_sliding_window=(False,), vocab_size=151936,
    ),
    "olmoe": _family(
        "Olmoe", Style(names=olmo.NAMES, qk_norm=olmo.over_all_heads),
        called={"num_local_experts": ("num_experts",)}, clip_qkv=(None,),
        hidden_size=2048, intermediate_size=2048, max_position_embeddings=4096,
        norm_topk_prob=False, num_attention_heads=16, num_experts=64, num_experts_per_tok=8,
        num_hidden_layers=16, pad_token_id=1, rms_norm_eps=1e-5, vocab_size=50304,
    ),
}  # fmt: skip
