"""Llama, and the families whose blocks differ from its own by a `Style`.

Blocks of RMS norm, grouped-query attention with rotary positions, and a gated feed-forward layer.

Source: Touvron and others, "LLaMA: Open and Efficient Foundation Language Models", 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any, Final, NamedTuple

from lincoln_fn.combine import geglu, select, serial, swiglu, with_context
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import _parts, family
from lincoln_fn.interop.architectures.family import ACTIVATIONS, Config, Family, Options, one_of
from lincoln_fn.layers.common import rope_scaling
from lincoln_fn.layers.common.constructors import ours
from lincoln_fn.layers.common.rope_scaling import RopeScaling

_ROPE_TYPES: Final = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")
_OPTIONAL: Final = {
    "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
}  # fmt: skip


def _with_rope(config: Config) -> Config:
    """Put all options of rotary positions into `rope_parameters`, and their type beside them.

    Layers with a window may have positions of their own: then these are `local_rope_parameters`.
    """
    own = config.get("rope_parameters") or {}
    if "full_attention" not in own:
        return _of_one(config)
    local = _of_one({**config, "rope_parameters": own.get("sliding_attention")})
    return {
        **_of_one({**config, "rope_parameters": own["full_attention"]}),
        "local_rope_parameters": local["rope_parameters"], "local_rope_type": local["rope_type"],
    }  # fmt: skip


def _of_one(config: Config) -> Config:
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


def _rotary(options: Options, head_dim: int, *, interleaved: bool, is_local: bool) -> Layer:
    """Make the positions of a block, those of layers with a window if they are local."""
    rope, kind = options.rope_parameters, options.rope_type
    theta = rope.get("rope_theta") or options.rope_theta
    if is_local:
        rope, kind = options.local_rope_parameters, options.local_rope_type
        theta = rope.get("rope_theta") or options.rope_local_base_freq or theta
    part = rope.get("partial_rotary_factor") or options.partial_rotary_factor
    return ours.rotary_embedding(
        theta,
        rotary_dim=None if part == 1 else int(head_dim * part),
        interleaved=interleaved,
        scaling=_scaling(options, rope, kind),
    )


def _scaling(options: Options, rope: Config, kind: str) -> RopeScaling | None:
    """Make the scaling of a config's type, whose arguments are options of the same names."""
    if kind == "default":
        return None
    longest = options.max_position_embeddings
    original = rope.get("original_max_position_embeddings") or longest
    given = {
        **rope, "max_position_embeddings": longest, "original_max_position_embeddings": original,
    }  # fmt: skip
    if kind in ("yarn", "longrope"):
        given["factor"] = given.get("factor") or longest / original
    make = getattr(rope_scaling, kind)
    wanted = [name for name in signature(make).parameters
              if name not in _OPTIONAL or given.get(name) is not None]  # fmt: skip
    if missing := [name for name in wanted if given.get(name) is None]:
        raise ValueError(f"rope_parameters: {missing[0]} is missing")
    made: RopeScaling = make(**{
        name: tuple(given[name]) if isinstance(given[name], list) else given[name]
        for name in wanted
    })  # fmt: skip
    return made


# These were stored once, the masks by GPT-NeoX.
_UNUSED: Final = (
    r"(\w+\.)?layers\.\d+\.(self_attn|attention)\.rotary_emb\.inv_freq",
    r"(\w+\.)?layers\.\d+\.attention\.(masked_)?bias",
)
# Options that change only how a model is trained or run, in any of the families.
_HARMLESS: Final = frozenset({
    "_sliding_window_pattern", "cache_implementation", "classifier_dropout",
    "output_router_logits", "router_aux_loss_coef",
})  # fmt: skip
_NAMES: Final = """
    model.embed_tokens                             embedding
    model.layers.#.input_layernorm                 norm_1
    model.layers.#.self_attn.{q,k,v,o}_proj        attention.{query,key,value,output}
    model.layers.#.self_attn.{q,k}_norm            attention.{query,key}_norm
    model.layers.#.post_attention_layernorm        norm_2
    model.layers.#.mlp.{gate,up,down}_proj         feed_forward.{gate,up,down}
    model.norm                                     body.#.1
    lm_head                                        head
"""
# Where the first projections are one tensor in the file, and so the gate and what it gates.
_FUSED: Final = """
    model.layers.#.self_attn.qkv_proj              attention.{query,key,value}
    model.layers.#.mlp.gate_up_proj                feed_forward.{gate,up}
"""
_FEED_FORWARD: Final[dict[str, Callable[..., Layer]]] = {
    **dict.fromkeys(("silu", "swish"), swiglu), "gelu": geglu,
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh"), partial(geglu, approximate="tanh")),
}  # fmt: skip


def rms_norm(options: Options) -> Layer:
    """Make the norm of most families."""
    return ours.rms_norm(eps=options.rms_norm_eps)


def gated(options: Options) -> Layer:
    """Make the gated feed-forward layer of a block."""
    return _FEED_FORWARD[options.hidden_act](options.intermediate_size, bias=options.mlp_bias)


def plain(options: Options) -> Layer:
    """Make a feed-forward layer without a gate."""
    activation, sizes = ACTIVATIONS[options.hidden_act](), (options.intermediate_size,)
    return _parts.feed_forward(*sizes, activation, options.hidden_size, bias=options.mlp_bias)


def _has_window(options: Options, i: int) -> bool:
    """Whether a layer has a window: all but every so many, or all from one on."""
    period = getattr(options, "sliding_window_pattern", None)
    return (i + 1) % period != 0 if period else i >= getattr(options, "max_window_layers", 0)


class Style(NamedTuple):
    """What is not an option of a family, but the same in all of its models."""

    # Of the projections of query, key and value, and of the output; None for the option's.
    bias: bool | None = None
    output_bias: bool | None = None
    # Rows of names before the usual ones.
    names: str = ""
    # The norm in front of a sublayer, None for none, and what is behind a sublayer.
    norm: Callable[[Options], Layer] | None = rms_norm
    after: Callable[[Options], Layer] = lambda options: _parts.maybe_dropout(options.resid_pdrop)
    # That behind the last block.
    last_norm: Callable[[Options], Layer] = rms_norm
    # (options, head_dim) -> the norm of queries and that of keys.
    qk_norm: Callable[[Options, int], Layer] | None = None
    # More arguments of the attention.
    attention: Callable[[Options], dict[str, Any]] = lambda options: {}
    feed_forward: Callable[[Options], Layer] = gated
    # Whether both sublayers read the same h, and by one norm.
    is_parallel: bool = False
    shares_norm: bool = True
    # Whether pairs of features are neighbours, whether block i has a window where `layer_types` is
    # not given, and whether the block, with a window or without one, has positions.
    interleaved: bool = False
    has_window: Callable[[Options, int], bool] = _has_window
    has_positions: Callable[[Options, int, int | None], bool] = lambda options, i, window: True
    # A factor of the embedding, and layers behind the scores.
    embedding_scale: Callable[[Options], float] = lambda options: 1.0
    scores: Callable[[Options], tuple[Layer, ...]] = lambda options: ()
    head_bias: bool = False


def _windows(options: Options, style: Style) -> list[int | None]:
    n, window = options.num_hidden_layers, getattr(options, "sliding_window", None)
    kinds = getattr(options, "layer_types", None)
    if kinds is None:
        has_window = [style.has_window(options, i) for i in range(n)]
    elif len(kinds) == n and {*kinds} <= {"sliding_attention", "full_attention"}:
        has_window = [kind == "sliding_attention" for kind in kinds]
    else:
        expected = f"{n} of sliding_ or full_attention"
        raise ValueError(f"layer_types: expected {expected}, got {kinds}")
    is_used = getattr(options, "use_sliding_window", True)
    return [window if is_used and has else None for has in has_window]


def _block(options: Options, style: Style, i: int, window: int | None) -> Layer:
    heads, kv_heads = options.num_attention_heads, options.num_key_value_heads
    head_dim = options.head_dim or options.hidden_size // heads
    positions = None
    if style.has_positions(options, i, window):
        has_local = window is not None and hasattr(options, "local_rope_parameters")
        positions = _rotary(options, head_dim, interleaved=style.interleaved, is_local=has_local)
    attention = ours.grouped_query_attention(
        heads,
        kv_heads,
        head_dim=head_dim,
        positions=positions,
        qk_norm=None if style.qk_norm is None else style.qk_norm(options, head_dim),
        bias=options.attention_bias if style.bias is None else style.bias,
        output_bias=style.output_bias,
        sliding_window=window,
        dropout=options.attention_dropout,
        **style.attention(options),
    )
    norm = ours.identity() if style.norm is None else style.norm(options)
    sublayers, after = (attention, style.feed_forward(options)), style.after(options)
    if _is_parallel(options, style):
        return _parts.parallel_block(norm, *sublayers, after, shares_norm=style.shares_norm)
    return _parts.pre_norm(norm, *sublayers, after)


def _is_parallel(options: Options, style: Style) -> bool:
    return getattr(options, "use_parallel_residual", style.is_parallel)


def _network(options: Options, style: Style, *, has_head: bool) -> family.Network:
    scale, p = style.embedding_scale(options), getattr(options, "embd_pdrop", 0.0)
    first = ([ours.scale(scale)] if scale != 1 else []) + ([ours.dropout(p)] if p else [])
    start = [serial(select(0), *first)] if first else []
    windows = _windows(options, style)
    blocks = [_block(options, style, i, window) for i, window in enumerate(windows)]
    body = with_context(*start, *blocks, serial(select(0), style.last_norm(options)))
    paths = _parts.SEQUENTIAL
    if _is_parallel(options, style):
        paths = _parts.ONE_NORM if style.shares_norm else _parts.TWO_NORMS
    number = "#+1" if start else "#"
    network = _parts.causal(
        options, options.hidden_size, body, style.scores(options), has_head=has_head,
        head_bias=style.head_bias, names=style.names + _NAMES, padding=options.pad_token_id,
        places={word: f"{number}.{path}" for word, path in paths.items()},
    )  # fmt: skip
    return network._replace(groups=options.num_key_value_heads or options.num_attention_heads)


_DEFAULTS: Final[Config] = {
    "attention_bias": False, "attention_dropout": 0.0, "head_dim": None, "hidden_act": "silu",
    "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 2048,
    "mlp_bias": (False,), "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": None, "pad_token_id": None, "partial_rotary_factor": 1.0,
    "resid_pdrop": 0.0, "rms_norm_eps": 1e-6, "rope_parameters": {}, "rope_theta": 10000.0,
    "rope_type": _ROPE_TYPES, "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip
# Where layers with a window have positions of their own.
LOCAL_ROPE: Final[Config] = {
    "layer_types": None, "local_rope_parameters": {}, "local_rope_type": _ROPE_TYPES,
    "rope_local_base_freq": None, "rope_theta": 1e6,
}  # fmt: skip


def llama_like(
    name: str, style: Style, *, called: Mapping[str, tuple[str, ...]] = {},
    **defaults: Any,  # as in `Config`
) -> Family:  # fmt: skip
    """Make a family of networks in a style, with defaults of its own.

    A tuple has all supported values of an option, the default first. `called` has the family's
    names of options that are others here, with ours: several, or none for an option without use.
    """
    options = {**_DEFAULTS, **defaults}
    activations = _FEED_FORWARD if style.feed_forward is not plain else ACTIVATIONS
    options["hidden_act"] = one_of(options["hidden_act"], activations)

    def flattened(config: Config) -> Config:
        return _with_rope({
            own: value for option, value in config.items() for own in called.get(option, (option,))
        })  # fmt: skip

    return Family(
        options=options,
        architectures=_parts.models(name, partial(_network, style=style)),
        names=style.names + _NAMES,
        prefix="model.",
        unused=_UNUSED,
        harmless=_HARMLESS,
        flattened=flattened,
    )


def qk_norm(options: Options, head_dim: int) -> Layer:
    """Make the norm of each head of queries or of keys."""
    return rms_norm(options)


_QWEN: Final[Config] = {
    "intermediate_size": 22016, "layer_types": None, "max_position_embeddings": 32768,
    "max_window_layers": 28, "num_key_value_heads": 32, "sliding_window": 4096,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
FAMILIES: Final = {
    "llama": llama_like("Llama", Style(), mlp_bias=False),
    "mistral": llama_like(
        "Mistral", Style(), attention_bias=(False,), intermediate_size=14336,
        max_position_embeddings=131072, num_key_value_heads=8, sliding_window=4096,
    ),
    "ministral": llama_like(
        "Ministral", Style(), attention_bias=(False,), intermediate_size=14336, layer_types=None,
        max_position_embeddings=131072, num_key_value_heads=8, sliding_window=4096,
    ),
    "qwen2": llama_like(
        "Qwen2", Style(bias=True, output_bias=False), attention_bias=(False,), **_QWEN
    ),
    "qwen3": llama_like("Qwen3", Style(qk_norm=qk_norm), head_dim=128, **_QWEN),
    "phi3": llama_like(
        "Phi3", Style(names=_FUSED), attention_bias=(False,), hidden_size=3072,
        intermediate_size=8192, max_position_embeddings=4096, pad_token_id=32000, rms_norm_eps=1e-5,
        sliding_window=None, vocab_size=32064,
    ),
}  # fmt: skip
