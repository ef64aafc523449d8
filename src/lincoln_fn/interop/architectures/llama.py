"""Llama, and the families that differ from it in an option: Mistral, Qwen 2 and 3, Phi 3, SmolLM.

Blocks of RMS norm, grouped-query attention with rotary positions, and a gated feed-forward layer.

Source: Touvron and others, "LLaMA: Open and Efficient Foundation Language Models", 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, Final, NamedTuple

from lincoln_fn.combine import geglu, select, serial, swiglu, with_context
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures.family import Config, Family, Network, Options
from lincoln_fn.layers.common import rope_scaling
from lincoln_fn.layers.common.constructors import ours
from lincoln_fn.layers.common.rope_scaling import RopeScaling

# `inv_freq` was stored once.
_FREQUENCIES: Final = r"(model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
_NAMES: Final = """
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
    **dict.fromkeys(("silu", "swish"), swiglu), "gelu": geglu,
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh"), partial(geglu, approximate="tanh")),
}  # fmt: skip

# Of rotary positions.
_ROPE_TYPES: Final = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")
_OPTIONAL: Final = {
    "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
}  # fmt: skip


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


def _with_rope(config: Config) -> Config:
    """Put all options of rotary positions into `rope_parameters`, and their type beside them."""
    flat = dict(config)
    rope = {**(flat.pop("rope_parameters", None) or {}), **(flat.pop("rope_scaling", None) or {})}
    old = rope.pop("type", "default")
    kind = rope.pop("rope_type", old)
    for name in ("rope_theta", "partial_rotary_factor"):
        outside = flat.pop(name, None)
        if outside is not None:
            rope.setdefault(name, outside)
    # This one has priority where it is outside.
    longest = "max_position_embeddings"
    original = f"original_{longest}"
    rope[original] = flat.pop(original, None) or rope.get(original) or flat.get(longest)
    kind = "longrope" if kind == "su" else kind  # its first name
    return {**flat, "rope_parameters": rope, "rope_type": kind}


def _rotary(options: Options, head_dim: int) -> Layer:
    rope = options.rope_parameters
    part = rope.get("partial_rotary_factor") or 1.0
    return ours.rotary_embedding(
        rope.get("rope_theta") or 10000.0,
        rotary_dim=None if part == 1 else int(head_dim * part),
        scaling=_scaling(options),
    )


def _scaling(options: Options) -> RopeScaling | None:
    """Make the scaling of a config's type, whose arguments are options of the same names."""
    kind, longest = options.rope_type, options.max_position_embeddings
    if kind == "default":
        return None
    original = options.rope_parameters.get("original_max_position_embeddings") or longest
    given = {
        **options.rope_parameters,
        "max_position_embeddings": longest,
        "original_max_position_embeddings": original,
    }
    if kind in ("yarn", "longrope"):
        given["factor"] = given.get("factor") or longest / original
    make = getattr(rope_scaling, kind)
    arguments = {name: given.get(name) for name in signature(make).parameters}
    for name, value in arguments.items():
        if value is None and name not in _OPTIONAL:
            raise ValueError(f"rope_parameters: {name} is missing")
    made: RopeScaling = make(**{
        name: tuple(value) if isinstance(value, list) else value
        for name, value in arguments.items()
        if value is not None
    })  # fmt: skip
    return made


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
    norm = ours.rms_norm(eps=options.rms_norm_eps)
    attend = attention(
        options,
        window,
        qk_norm=norm if style.has_qk_norm else None,
        bias=options.attention_bias if style.bias is None else style.bias,
        output_bias=style.output_bias,
    )
    feed_forward = (style.feed_forward or gated_feed_forward)(options)
    return _parts.pre_norm(norm, attend, feed_forward, getattr(options, "resid_pdrop", 0.0))


def attention(options: Options, window: int | None, **more: Any) -> Layer:  # Any: its options
    """Make the attention of a block, with rotary positions."""
    head_dim = options.head_dim or options.hidden_size // options.num_attention_heads
    return ours.grouped_query_attention(
        options.num_attention_heads,
        options.num_key_value_heads,
        head_dim=head_dim,
        positions=_rotary(options, head_dim),
        sliding_window=window,
        dropout=options.attention_dropout,
        **more,
    )


def gated_feed_forward(options: Options) -> Layer:
    """Make the gated feed-forward layer of a block."""
    return _FEED_FORWARD[options.hidden_act](options.intermediate_size, bias=options.mlp_bias)


def _network(options: Options, style: Style, *, has_head: bool) -> Network:
    blocks = [_block(options, style, window) for window in _windows(options)]
    body = with_context(*blocks, serial(select(0), ours.rms_norm(eps=options.rms_norm_eps)))
    return model(options, body, has_head=has_head)


def model(
    options: Options, body: Layer, scores: tuple[Layer, ...] | None = None, *, has_head: bool
) -> Network:
    """Make a model of texts with Llama's names, as `_parts.causal` does."""
    return _parts.causal(
        options, options.hidden_size, body, scores, has_head=has_head,
        copies={"lm_head.weight": "model.embed_tokens.weight"}, padding=options.pad_token_id,
    )  # fmt: skip


_DEFAULTS: Final[Config] = {
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
        defaults={**_DEFAULTS, **without, **defaults},
        supported={
            "hidden_act": tuple(_FEED_FORWARD),
            "rope_type": _ROPE_TYPES,
            **dict.fromkeys(without, (False,)),
        },
        architectures=_parts.models(name, partial(_network, style=style)),
        names=style.names + _NAMES,
        prefix="model.",
        unused=(_FREQUENCIES,),
        flattened=_with_rope,
    )


_QWEN: Final[Config] = {
    "intermediate_size": 22016, "layer_types": None, "max_position_embeddings": 32768,
    "max_window_layers": 28, "num_key_value_heads": 32, "sliding_window": 4096,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
FAMILIES: Final = {
    "llama": llama_like("Llama", Style(), attention_bias=False, mlp_bias=False),
    "mistral": llama_like(
        "Mistral", Style(), intermediate_size=14336, num_key_value_heads=8, sliding_window=4096,
        max_position_embeddings=131072,
    ),
    "qwen2": llama_like("Qwen2", Style(bias=True, output_bias=False), **_QWEN),
    "qwen3": llama_like(
        "Qwen3", Style(has_qk_norm=True), attention_bias=False, head_dim=128, **_QWEN
    ),
    "phi3": llama_like(
        "Phi3", Style(names=_FUSED), hidden_size=3072, intermediate_size=8192,
        max_position_embeddings=4096, pad_token_id=32000, resid_pdrop=0.0, rms_norm_eps=1e-5,
        sliding_window=None, vocab_size=32064,
    ),
}  # fmt: skip
