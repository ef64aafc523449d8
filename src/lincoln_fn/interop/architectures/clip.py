"""CLIP: a network of texts and one of images, whose outputs are compared.

Source: Radford and others, "Learning Transferable Visual Models From Natural Language Supervision",
2021.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Final

import torch

from lincoln_fn.combine import parallel, select, serial, with_context
from lincoln_fn.core import Arrays, Layer, Params, declare, record
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures.family import Config, Family, Network, Options, one_of
from lincoln_fn.layers.common.constructors import ours

_NAMES: Final = """
    text_model.embeddings.token_embedding               text.0.0.0.0
    text_model.embeddings.position_embedding            text.0.0.1.0.1
    text_model.final_layer_norm                         text.0.0.1.#.1
    vision_model.embeddings.class_embedding             vision.0.3.weight
    vision_model.embeddings.{patch,position}_embedding  vision.0.{0,4}
    vision_model.pre_layrnorm                           vision.1
    vision_model.post_layernorm                         pooled.1
    {text,vision}_model.encoder.layers.#.layer_norm{1,2} {text.0.0.1.#+1,vision.2.#}.{0.0.0.0,1.0.0}
    {text,vision}_model.encoder.layers.#.mlp.fc{1,2}     {text.0.0.1.#+1,vision.2.#}.1.0.1.{0,2}
    {text,vision}_model.encoder.layers.#.self_attn.{q_proj,k_proj,v_proj,out_proj}  \
        {text.0.0.1.#+1,vision.2.#}.0.0.1.{query,key,value,output}
    {visual,text}_projection                            1.{0,1}.2
    logit_scale                                         2.log_scale
"""


@record
class Cache:
    """Where each sequence ends, and a stand-in for the sequences."""

    place: torch.Tensor
    x: torch.Tensor


def _forward(params: Params, x: Arrays, *, eos: int) -> tuple[Arrays, Cache]:
    """Take h at the first place with the token that ends a text."""
    h, ids = x
    # With 2, which the first configs had by mistake, the token is the one of the largest number.
    place = (ids if eos == 2 else (ids == eos).int()).argmax(-1)
    index = place[..., None, None].expand(*place.shape, 1, h.shape[-1])
    return h.gather(-2, index).squeeze(-2), Cache(index, h.new_zeros(()).expand(h.shape))


declare(_forward, kind="moving")


def _backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    return (torch.zeros_like(cache.x).scatter(-2, cache.place, g.unsqueeze(-2)), None), ()


def _blocks(options: Options, *, is_text: bool) -> list[Layer]:
    sublayers = _parts.sublayers(options, options.attention_dropout, is_causal=is_text)
    block = _parts.pre_norm(_parts.norm_of(options), *sublayers, has_mask=is_text)
    return [block] * options.num_hidden_layers


def _text(options: Options, *, has_all: bool) -> Layer:
    """Make the network of (ids, mask), from which `has_all` gives the last hidden state, too."""
    body = with_context(
        serial(select(0), ours.positional_embedding(options.max_position_embeddings)),
        *_blocks(options, is_text=True),
        serial(select(0), _parts.norm_of(options)),
    )
    tokens = ours.embedding(options.vocab_size, options.hidden_size)
    hidden = serial(parallel(tokens, ours.identity()), body)
    eos = options.eos_token_id
    end = Layer(f"state_at_token({eos})", partial(_forward, eos=eos), _backward)
    both = _parts.tuple_of(hidden, select(0))
    return serial(both, _parts.tuple_of(select(0), end) if has_all else end)


def _image(options: Options, *, has_all: bool) -> Layer:
    """Make the network of an image, from which `has_all` gives the last hidden state, too."""
    patch = options.patch_size
    count = (options.image_size // patch) ** 2
    patches = _parts.patches(options.hidden_size, patch, count, bias=False)
    blocks = serial(*_blocks(options, is_text=False))
    hidden = serial(serial(*patches), _parts.norm_of(options), blocks)
    pooled = serial(ours.take(0, -2), _parts.norm_of(options))
    return serial(hidden, _parts.tuple_of(ours.identity(), pooled) if has_all else pooled)


def _text_model(options: Options) -> Network:
    net = serial(_parts.arguments("input_ids", "attention_mask"), _text(options, has_all=True))
    return Network(net, _parts.token_ids(), {"text": "1"})


def _vision_model(options: Options) -> Network:
    image = _parts.pixels(options, (options.image_size,) * 2)
    return Network(_image(options, has_all=True), image, {"vision": "0", "pooled": "1.1"})


def _below(options: Options, part: str) -> Options:
    inner = {n.removeprefix(part): v for n, v in vars(options).items() if n.startswith(part)}
    return SimpleNamespace(**inner)


def _model(options: Options) -> Network:
    """Make the network of (texts, images, mask), whose y is the scores of each image's texts."""
    text, vision = _below(options, "text_config."), _below(options, "vision_config.")

    def projected(*layers: Layer) -> Layer:
        return serial(*layers, ours.dense(options.projection_dim, bias=False))

    net = serial(
        _parts.arguments("input_ids", "pixel_values", "attention_mask", least=2),
        _parts.tuple_of(
            projected(select(1), _image(vision, has_all=False)),
            projected(select(0, 2), _text(text, has_all=False)),
        ),
        ours.cosine_similarities(),
    )
    places = {"vision": "1.0.1.0", "pooled": "1.0.1.1", "text": "1.1.1"}
    pixels = _parts.pixels(vision, (vision.image_size,) * 2)
    return Network(net, (_parts.token_ids(), pixels), places)


_TEXT: Final[Config] = {
    "attention_dropout": 0.0, "eos_token_id": 49407, "hidden_act": one_of("quick_gelu"),
    "hidden_size": 512, "intermediate_size": 2048, "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77, "num_attention_heads": 8, "num_hidden_layers": 12,
    "vocab_size": 49408,
}  # fmt: skip
_VISION: Final[Config] = {
    "attention_dropout": 0.0, "hidden_act": one_of("quick_gelu"), "hidden_size": 768,
    "image_size": 224, "intermediate_size": 3072, "layer_norm_eps": 1e-5, "num_attention_heads": 12,
    "num_channels": 3, "num_hidden_layers": 12, "patch_size": 32,
}  # fmt: skip


def _flattened(config: Config) -> Config:
    """Name the options of the two networks by their place, as in "text_config.hidden_size"."""
    parts = ("text_config", "vision_config")
    flat = {n: v for n, v in config.items() if n not in parts}
    for part in parts:
        flat |= {f"{part}.{name}": value for name, value in (config.get(part) or {}).items()}
    return flat


_CLIP: Final = Family(
    options={
        "projection_dim": 512, **{f"text_config.{name}": value for name, value in _TEXT.items()},
        **{f"vision_config.{name}": value for name, value in _VISION.items()},
    },
    architectures={"CLIPModel": _model},
    names=_NAMES,
    unused=(r"(text_model\.|vision_model\.)?embeddings\.position_ids",),
    harmless=frozenset({"logit_scale_init_value", "projection_dim", "dropout"}),
    flattened=_flattened,
)  # fmt: skip
FAMILIES: Final = {
    "clip": _CLIP,
    "clip_text_model": _CLIP._replace(
        options=_TEXT, architectures={"CLIPTextModel": _text_model}, prefix="text_model."
    ),
    "clip_vision_model": _CLIP._replace(
        options=_VISION, architectures={"CLIPVisionModel": _vision_model}, prefix="vision_model."
    ),
}
