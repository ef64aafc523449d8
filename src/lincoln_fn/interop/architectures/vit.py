"""ViT: an image as a sequence of patches, behind a class token.

Source: Dosovitskiy and others, "An Image is Worth 16x16 Words", 2021.
"""

from __future__ import annotations

import re
from typing import Final

from lincoln_fn.combine import serial
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import _parts, family
from lincoln_fn.interop.architectures.family import ACTIVATIONS, Family, Network, Options, one_of
from lincoln_fn.layers.common.constructors import ours

_NAMES: Final = """
    vit.embeddings.cls_token                                    0.3.weight          2
    vit.embeddings.position_embeddings                          0.4.weight          1
    vit.embeddings.patch_embeddings.projection                  0.0
    vit.encoder.layer.#.attention.attention.{query,key,value}   1.#.0.0.1.{query,key,value}
    vit.encoder.layer.#.attention.output.dense                  1.#.0.0.1.output
    vit.encoder.layer.#.{intermediate,output}.dense             1.#.1.0.1.{0,2}
    vit.encoder.layer.#.layernorm_{before,after}                1.#.{0.0.0.0,1.0.0}
    vit.layernorm                                               2
    vit.pooler.dense                                            pooler
    classifier                                                  classifier
"""

# Of a layer's parts in memory, since transformers 5, and in a file.
_IN_MEMORY: Final = family.read_names("""
    attention.{q,k,v,o}_proj  attention.{attention.query,attention.key,attention.value,output.dense}
    mlp.fc{1,2}               {intermediate,output}.dense
""")


def _sizes(size: int | list[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _network(options: Options, head: Layer, *, is_bare: bool = False, **places: str) -> Network:
    image, patch = _sizes(options.image_size), _sizes(options.patch_size)
    count = (image[0] // patch[0]) * (image[1] // patch[1])
    patches = _parts.patches(options.hidden_size, patch, count)
    sublayers = _parts.sublayers(options, options.attention_probs_dropout_prob)
    p = options.hidden_dropout_prob
    after = _parts.maybe_dropout(p)
    block = _parts.pre_norm(_parts.norm_of(options), *sublayers, after, has_mask=False)
    net = serial(
        serial(*patches, after),
        serial(*(block,) * options.num_hidden_layers),
        _parts.norm_of(options),
        head,
    )
    return Network(net, _parts.pixels(options, image), places, is_bare=is_bare)


def _model(options: Options) -> Network:
    n = options.pooler_output_size or options.hidden_size
    pooler = serial(ours.take(0, -2), ours.dense(n), ACTIVATIONS[options.pooler_act]())
    head = _parts.tuple_of(ours.identity(), pooler)
    return _network(options, head, is_bare=True, pooler="3.1.1")


def _classifier(options: Options) -> Network:
    head = serial(ours.take(0, -2), ours.dense(options.num_labels))
    return _network(options, head, classifier="3.1")


FAMILIES: Final = {"vit": Family(
    options={
        "attention_probs_dropout_prob": 0.0, "hidden_act": one_of("gelu"),
        "hidden_dropout_prob": 0.0, "hidden_size": 768, "image_size": 224,
        "intermediate_size": 3072, "layer_norm_eps": 1e-12, "num_attention_heads": 12,
        "num_channels": 3, "num_hidden_layers": 12, "patch_size": 16, "pooler_act": one_of("tanh"),
        "pooler_output_size": None, "qkv_bias": (True,),
    },
    architectures={"ViTModel": _model, "ViTForImageClassification": _classifier},
    names=_NAMES,
    prefix="vit.",
    renamed=(
        *((rf"\blayers\.(\d+)\.{re.escape(name)}\b", rf"layers.\1.{old}")
          for name, old in _IN_MEMORY.items()),
        (r"\blayers\.(\d+)\.", r"encoder.layer.\1."),
    ),
    harmless=frozenset({"encoder_stride"}),
)}  # fmt: skip
