"""Mixtral: Llama's blocks, in which a router chooses two of several feed-forward layers per token.

Source: Jiang and others, "Mixtral of Experts", 2024.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn.combine import mixture_of_experts
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures.family import Options
from lincoln_fn.interop.architectures.llama import Style, gated, llama_like
from lincoln_fn.layers.common.constructors import ours


def _experts(options: Options) -> Layer:
    n = options.num_local_experts
    experts = (gated(options),) * n
    return mixture_of_experts(ours.dense(n, bias=False), experts, top_k=options.num_experts_per_tok)


_NAMES: Final = """
    model.layers.#.block_sparse_moe.gate                    feed_forward.router
    model.layers.#.block_sparse_moe.experts.#.w{1,2,3}      feed_forward.experts.#.{gate,down,up}
"""
_LIKE_LLAMA: Final = llama_like(
    "Mixtral", Style(names=_NAMES, feed_forward=_experts),
    intermediate_size=14336, max_position_embeddings=131072, num_experts_per_tok=2,
    num_key_value_heads=8, num_local_experts=8, rms_norm_eps=1e-5, router_jitter_noise=0.0,
    sliding_window=None,
)  # fmt: skip
FAMILIES: Final = {"mixtral": _LIKE_LLAMA._replace(
    supported={**_LIKE_LLAMA.supported, "router_jitter_noise": (0.0,)},
    renamed=((r"\.mlp\.", ".block_sparse_moe."),),
    stacked=(
        (r"\.mlp\.experts\.gate_up_proj$", (
            ".block_sparse_moe.experts.{}.w1.weight", ".block_sparse_moe.experts.{}.w3.weight",
        )),
        (r"\.mlp\.experts\.down_proj$", (".block_sparse_moe.experts.{}.w2.weight",)),
    ),
    harmless=frozenset({"output_router_logits", "router_aux_loss_coef"}),
)}  # fmt: skip
