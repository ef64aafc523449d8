"""Llama, and the families that differ from it in an option: Mistral, Qwen 2 and 3, Phi 3, SmolLM.

Blocks of RMS norm, grouped-query attention with rotary positions, and a gated feed-forward layer.

Source: Touvron and others, "LLaMA: Open and Efficient Foundation Language Models", 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from lincoln_fn.combine import geglu, select, serial, swiglu, with_context
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures._rope import ROPE_TYPES, rotary, with_rope
from lincoln_fn.interop.architectures.family import Config, Family, Network, Options
from lincoln_fn.layers.grouped_query_attention import grouped_query_attention
from lincoln_fn.layers.rms_norm import rms_norm

# `inv_freq` was stored once.
FREQUENCIES: Final = r"(model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
NAMES: Final = """
    model.embed_tokens                             embedding
    model.layers.#.input_layernorm                 body.#.0.0.0.0
    model.layers.#.self_attn.{q,k,v,o}_proj        body.#.0.0.1.{query,key,value,output}
    model.layers.#.self_attn.{q,k}_norm            body.#.0.0.1.{query,key}_norm
    model.layers.#.post_attention_layernorm        body.#.1.0.0
    model.layers.#.mlp.{gate,up,down}_proj         body.#.1.0.1.{gate,up,down}
    model.norm                                     body.#.1
    lm_head                                        head
"""
# Where the first projections are one tensor in the file, and so the gate and what it gates.
_FUSED: Final = """
    model.layers.#.self_attn.qkv_proj              body.#.0.0.1.{query,key,value}
    model.layers.#.mlp.gate_up_proj                body.#.1.0.1.{gate,up}
"""
_FEED_FORWARD: Final[dict[str, Callable[..., Layer]]] = {
    "silu": swiglu,
    "swish": swiglu,
    "gelu": geglu,
    "gelu_new": partial(geglu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(geglu, approximate="tanh"),
}


class Style(NamedTuple):
    """What is not an option of a family, but the same in all of its models."""

    # Of the projections of query, key and value, and of the output; None for the option's.
    bias: bool | None = None
    output_bias: bool | None = None
    has_qk_norm: bool = False
    # Rows of names before the usual ones.
    names: str = ""
    # The feed-forward layer of a block; None for a gated one.
    feed_forward: Callable[[Options], Layer] | None = None


def windows_of(kinds: list[str], window: int | None, n: int) -> list[int | None]:
    """Find the window of each of n layers, None for one without, from `layer_types`."""
    if len(kinds) != n or not {*kinds} <= {"sliding_attention", "full_attention"}:
        raise ValueError(f"layer_types: expected {n} of sliding_ or full_attention, got {kinds}")
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _windows(options: Options) -> list[int | None]:
    n, window = options.num_hidden_layers, getattr(options, "sliding_window", None)
    if not getattr(options, "use_sliding_window", True):
        window = None
    kinds = getattr(options, "layer_types", None)
    if kinds is not None:
        return windows_of(kinds, window, n)
    first = getattr(options, "max_window_layers", 0)
    return [window if i >= first else None for i in range(n)]


def _block(options: Options, style: Style, window: int | None) -> Layer:
    norm = rms_norm(eps=options.rms_norm_eps)
    head_dim = options.head_dim or options.hidden_size // options.num_attention_heads
    attention = grouped_query_attention(
        options.num_attention_heads,
        options.num_key_value_heads,
        head_dim=head_dim,
        positions=rotary(options, head_dim),
        qk_norm=norm if style.has_qk_norm else None,
        bias=options.attention_bias if style.bias is None else style.bias,
        output_bias=style.output_bias,
        sliding_window=window,
        dropout=options.attention_dropout,
    )
    feed_forward = (style.feed_forward or gated_feed_forward)(options)
    return _parts.pre_norm(norm, attention, feed_forward, getattr(options, "resid_pdrop", 0.0))


def gated_feed_forward(options: Options) -> Layer:
    """Make the gated feed-forward layer of a block."""
    return _FEED_FORWARD[options.hidden_act](options.intermediate_size, bias=options.mlp_bias)


def _network(options: Options, style: Style, *, has_head: bool) -> Network:
    blocks = [_block(options, style, window) for window in _windows(options)]
    body = with_context(*blocks, serial(select(0), rms_norm(eps=options.rms_norm_eps)))
    return llama_model(options, body, has_head=has_head)


def llama_model(
    options: Options, body: Layer, scores: tuple[Layer, ...] | None = None, *, has_head: bool
) -> Network:
    """Make a model of texts with Llama's names, as `_parts.causal` does."""
    return _parts.causal(
        options, options.hidden_size, body, scores, has_head=has_head,
        copies={"lm_head.weight": "model.embed_tokens.weight"}, padding=options.pad_token_id,
    )  # fmt: skip


DEFAULTS: Final[Config] = {
    "attention_dropout": 0.0, "head_dim": None, "hidden_act": "silu", "hidden_size": 4096,
    "intermediate_size": 11008, "max_position_embeddings": 2048, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": None, "pad_token_id": None,
    "rms_norm_eps": 1e-6, "rope_parameters": {}, "rope_type": "default",
    "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip


def llama_like(name: str, style: Style, **defaults: Any) -> Family:  # Any: as in `Config`
    """Make a family of Llama's networks in another style, with defaults of its own."""
    has_biases = {"attention_bias", "mlp_bias"} & defaults.keys()
    without = {bias: False for bias in ("attention_bias", "mlp_bias") if bias not in has_biases}
    return Family(
        defaults={**DEFAULTS, **without, **defaults},
        supported={
            "hidden_act": tuple(_FEED_FORWARD),
            "rope_type": ROPE_TYPES,
            **dict.fromkeys(without, (False,)),
        },
        architectures={
            f"{name}Model": partial(_network, style=style, has_head=False),
            f"{name}ForCausalLM": partial(_network, style=style, has_head=True),
        },
        names=style.names + NAMES,
        prefix="model.",
        unused=(FREQUENCIES,),
        flattened=with_rope,
    )


LLAMA: Final = llama_like("Llama", Style(), attention_bias=False, mlp_bias=False)
MISTRAL: Final = llama_like(
    "Mistral", Style(), intermediate_size=14336, num_key_value_heads=8, sliding_window=4096,
    max_position_embeddings=131072,
)  # fmt: skip
QWEN2: Final = llama_like(
    "Qwen2", Style(bias=True, output_bias=False), intermediate_size=22016, layer_types=None,
    max_position_embeddings=32768, max_window_layers=28, num_key_value_heads=32,
    sliding_window=4096, use_sliding_window=False, vocab_size=151936,
)  # fmt: skip
QWEN3: Final = llama_like(
    "Qwen3", Style(has_qk_norm=True), attention_bias=False, head_dim=128, intermediate_size=22016,
    layer_types=None, max_position_embeddings=32768, max_window_layers=28, num_key_value_heads=32,
    sliding_window=4096, use_sliding_window=False, vocab_size=151936,
)  # fmt: skip
PHI3: Final = llama_like(
    "Phi3", Style(names=_FUSED), hidden_size=3072, intermediate_size=8192,
    max_position_embeddings=4096, pad_token_id=32000, resid_pdrop=0.0, rms_norm_eps=1e-5,
    sliding_window=None, vocab_size=32064,
)  # fmt: skip
