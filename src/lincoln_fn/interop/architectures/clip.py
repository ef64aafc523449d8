"""CLIP: a network of texts and one of images, whose outputs are compared.

Source: Radford and others, "Learning Transferable Visual Models From Natural Language Supervision",
2021.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import torch

from lincoln_fn.combine.branch import branch
from lincoln_fn.combine.context import select, with_context
from lincoln_fn.combine.parallel import parallel
from lincoln_fn.combine.serial import serial
from lincoln_fn.core.layer import Layer
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures._parts import PRE_NORM
from lincoln_fn.interop.architectures._state_at_token import state_at_token
from lincoln_fn.interop.architectures.family import (
    ACTIVATIONS,
    Config,
    Family,
    Network,
    Options,
    linear,
    plain,
)
from lincoln_fn.interop.names import Slot
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

_IDS: Final = r"(text_model\.|vision_model\.)?embeddings\.position_ids"


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


def _block_slots(name: str, path: str) -> list[Slot]:
    at = {part: f"{path}.{inner}" for part, inner in PRE_NORM.items()}
    parts = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
    attention, own = f"{name}.self_attn", at["attention"]
    return [
        *(s for theirs, p in parts.items() for s in linear(f"{attention}.{theirs}", f"{own}.{p}")),
        *plain(f"{name}.layer_norm1", at["norm1"]),
        *linear(f"{name}.mlp.fc1", f"{at['feed_forward']}.0"),
        *linear(f"{name}.mlp.fc2", f"{at['feed_forward']}.2"),
        *plain(f"{name}.layer_norm2", at["norm2"]),
    ]


def _text_slots(options: Options, prefix: str, path: str) -> list[Slot]:
    n, body = options.num_hidden_layers, f"{path}.0.0.1"
    layers = f"{prefix}encoder.layers"
    return [
        *plain(f"{prefix}embeddings.token_embedding", f"{path}.0.0.0.0"),
        *plain(f"{prefix}embeddings.position_embedding", f"{body}.0.1"),
        *(s for i in range(n) for s in _block_slots(f"{layers}.{i}", f"{body}.{i + 1}")),
        *plain(f"{prefix}final_layer_norm", f"{body}.{n + 1}.1"),
    ]


def _image_slots(options: Options, prefix: str, path: str, norm: str) -> list[Slot]:
    """List the slots of the network of an image, with the path of the last norm in its head."""
    n, hidden = options.num_hidden_layers, f"{path}0"
    layers = f"{prefix}encoder.layers"
    return [
        Slot(f"{prefix}embeddings.class_embedding", (f"{hidden}.0.3.weight",)),
        *plain(f"{prefix}embeddings.patch_embedding", f"{hidden}.0.0"),
        *plain(f"{prefix}embeddings.position_embedding", f"{hidden}.0.4"),
        *plain(f"{prefix}pre_layrnorm", f"{hidden}.1"),
        *(s for i in range(n) for s in _block_slots(f"{layers}.{i}", f"{hidden}.2.{i}")),
        *plain(f"{prefix}post_layernorm", f"{path}1.{norm}"),
    ]


def _pixels(options: Options) -> torch.Tensor:
    size = options.image_size
    return torch.empty((1, options.num_channels, size, size), device="meta")


def _text_model(options: Options) -> Network:
    net = serial(_parts.arguments("input_ids", "attention_mask"), _text(options, has_all=True))
    slots = _text_slots(options, "text_model.", "1")
    return Network(net, slots, _parts.token_ids(), (_IDS,))


def _vision_model(options: Options) -> Network:
    slots = _image_slots(options, "vision_model.", "", "1.1")
    return Network(_image(options, has_all=True), slots, _pixels(options), (_IDS,))


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
    slots = [
        *_image_slots(vision, "vision_model.", "1.0.1.", "1"),
        *linear("visual_projection", "1.0.2"),
        *_text_slots(text, "text_model.", "1.1.1"),
        *linear("text_projection", "1.1.2"),
        Slot("logit_scale", ("2.log_scale",)),
    ]
    return Network(net, slots, (_parts.token_ids(), _pixels(vision)), (_IDS,))


_BOTH: Final[Config] = {
    "attention_dropout": 0.0,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "num_hidden_layers": 12,
}
_TEXT: Final[Config] = {
    **_BOTH,
    "eos_token_id": 49407,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "max_position_embeddings": 77,
    "num_attention_heads": 8,
    "vocab_size": 49408,
}
_VISION: Final[Config] = {
    **_BOTH,
    "hidden_size": 768,
    "image_size": 224,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_channels": 3,
    "patch_size": 32,
}


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
        prefix=prefix,
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
