"""CLIP: a network of texts and one of images, whose outputs are compared.

Source: Radford and others, "Learning Transferable Visual Models From Natural Language Supervision",
2021.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import torch

from lincoln_fn.combine import branch, parallel, select, serial, with_context
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures._state_at_token import state_at_token
from lincoln_fn.interop.architectures.family import ACTIVATIONS, Config, Family, Network, Options
from lincoln_fn.layers.class_token import class_token
from lincoln_fn.layers.conv import conv2d
from lincoln_fn.layers.cosine_similarities import cosine_similarities
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.embedding import embedding
from lincoln_fn.layers.flatten import flatten
from lincoln_fn.layers.identity import identity
from lincoln_fn.layers.layer_norm import layer_norm
from lincoln_fn.layers.permute import permute
from lincoln_fn.layers.positional_embedding import positional_embedding
from lincoln_fn.layers.take import take

_NAMES: Final = """
    text_model.embeddings.token_embedding                 text.0.0.0.0
    text_model.embeddings.position_embedding              text.0.0.1.0.1
    text_model.encoder.layers.#.layer_norm{1,2}           text.0.0.1.#+1.{0.0.0.0,1.0.0}
    text_model.encoder.layers.#.self_attn.{q,k,v}_proj    text.0.0.1.#+1.0.0.1.{query,key,value}
    text_model.encoder.layers.#.self_attn.out_proj        text.0.0.1.#+1.0.0.1.output
    text_model.encoder.layers.#.mlp.fc{1,2}               text.0.0.1.#+1.1.0.1.{0,2}
    text_model.final_layer_norm                           text.0.0.1.#.1
    vision_model.embeddings.class_embedding               vision.0.3.weight
    vision_model.embeddings.patch_embedding               vision.0.0
    vision_model.embeddings.position_embedding            vision.0.4
    vision_model.pre_layrnorm                             vision.1
    vision_model.encoder.layers.#.layer_norm{1,2}         vision.2.#.{0.0.0.0,1.0.0}
    vision_model.encoder.layers.#.self_attn.{q,k,v}_proj  vision.2.#.0.0.1.{query,key,value}
    vision_model.encoder.layers.#.self_attn.out_proj      vision.2.#.0.0.1.output
    vision_model.encoder.layers.#.mlp.fc{1,2}             vision.2.#.1.0.1.{0,2}
    vision_model.post_layernorm                           pooled.1
    {visual,text}_projection                              1.{0,1}.2
    logit_scale                                           2.log_scale
"""


def _norm(options: Options) -> Layer:
    return layer_norm(eps=options.layer_norm_eps)


def _blocks(options: Options, *, is_text: bool) -> list[Layer]:
    sublayers = _parts.sublayers(options, options.attention_dropout, is_causal=is_text)
    block = _parts.pre_norm(_norm(options), *sublayers, has_mask=is_text)
    return [block] * options.num_hidden_layers


def _text(options: Options, *, has_all: bool) -> Layer:
    """Make the network of (ids, mask), from which `has_all` gives the last hidden state, too."""
    body = with_context(
        serial(select(0), positional_embedding(options.max_position_embeddings)),
        *_blocks(options, is_text=True),
        serial(select(0), _norm(options)),
    )
    tokens = embedding(options.vocab_size, options.hidden_size)
    hidden = serial(parallel(tokens, identity()), body)
    end = state_at_token(options.eos_token_id)
    both = branch(hidden, select(0), merge=identity())
    if has_all:
        return serial(both, branch(select(0), end, merge=identity()))
    return serial(both, end)


def _image(options: Options, *, has_all: bool) -> Layer:
    """Make the network of an image, from which `has_all` gives the last hidden state, too."""
    patch = options.patch_size
    patches = serial(
        conv2d(options.hidden_size, patch, patch, bias=False),
        flatten(2),
        permute(0, 2, 1),
        class_token(),
        positional_embedding((options.image_size // patch) ** 2 + 1),
    )
    hidden = serial(patches, _norm(options), serial(*_blocks(options, is_text=False)))
    pooled = serial(take(0, -2), _norm(options))
    return serial(hidden, branch(identity(), pooled, merge=identity()) if has_all else pooled)


def _pixels(options: Options) -> torch.Tensor:
    size = options.image_size
    return torch.empty((1, options.num_channels, size, size), device="meta")


def _text_model(options: Options) -> Network:
    net = serial(_parts.arguments("input_ids", "attention_mask"), _text(options, has_all=True))
    return Network(net, _parts.token_ids(), {"text": "1"})


def _vision_model(options: Options) -> Network:
    net = _image(options, has_all=True)
    return Network(net, _pixels(options), {"vision": "0", "pooled": "1.1"})


def _below(options: Options, part: str) -> Options:
    inner = {n.removeprefix(part): v for n, v in vars(options).items() if n.startswith(part)}
    return SimpleNamespace(**inner)


def _model(options: Options) -> Network:
    """Make the network of (texts, images, mask), whose y is the scores of each image's texts."""
    text, vision = _below(options, "text_config."), _below(options, "vision_config.")

    def projected(*layers: Layer) -> Layer:
        return serial(*layers, dense(options.projection_dim, bias=False))

    net = serial(
        _parts.arguments("input_ids", "pixel_values", "attention_mask", least=2),
        branch(
            projected(select(1), _image(vision, has_all=False)),
            projected(select(0, 2), _text(text, has_all=False)),
            merge=identity(),
        ),
        cosine_similarities(),
    )
    places = {"vision": "1.0.1.0", "pooled": "1.0.1.1", "text": "1.1.1"}
    return Network(net, (_parts.token_ids(), _pixels(vision)), places)


_TEXT: Final[Config] = {
    "attention_dropout": 0.0, "eos_token_id": 49407, "hidden_act": "quick_gelu",
    "hidden_size": 512, "intermediate_size": 2048, "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77, "num_attention_heads": 8, "num_hidden_layers": 12,
    "vocab_size": 49408,
}  # fmt: skip
_VISION: Final[Config] = {
    "attention_dropout": 0.0, "hidden_act": "quick_gelu", "hidden_size": 768, "image_size": 224,
    "intermediate_size": 3072, "layer_norm_eps": 1e-5, "num_attention_heads": 12,
    "num_channels": 3, "num_hidden_layers": 12, "patch_size": 32,
}  # fmt: skip


def _flattened(config: Config) -> Config:
    """Name the options of the two networks by their place, as in "text_config.hidden_size"."""
    parts = ("text_config", "vision_config")
    flat: dict[str, Any] = {n: v for n, v in config.items() if n not in parts}
    for part in parts:
        flat |= {f"{part}.{name}": value for name, value in (config.get(part) or {}).items()}
    return flat


def _family(
    defaults: Config, prefix: str, flattened: Callable[[Config], Config] = dict,
    **architectures: Callable[[Options], Network],
) -> Family:  # fmt: skip
    activations = {name for name in defaults if name.endswith("hidden_act")}
    return Family(
        defaults=defaults,
        supported=dict.fromkeys(sorted(activations), tuple(ACTIVATIONS)),
        architectures=architectures,
        names=_NAMES,
        prefix=prefix,
        unused=(r"(text_model\.|vision_model\.)?embeddings\.position_ids",),
        harmless=frozenset({"logit_scale_init_value", "projection_dim", "dropout"}),
        flattened=flattened,
    )


CLIP_TEXT: Final = _family(_TEXT, "text_model.", CLIPTextModel=_text_model)
CLIP_VISION: Final = _family(_VISION, "vision_model.", CLIPVisionModel=_vision_model)
CLIP: Final = _family(
    {
        "projection_dim": 512,
        **{f"text_config.{name}": value for name, value in _TEXT.items()},
        **{f"vision_config.{name}": value for name, value in _VISION.items()},
    },
    "",
    _flattened,
    CLIPModel=_model,
)
