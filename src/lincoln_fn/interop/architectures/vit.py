"""ViT: an image as a sequence of patches, behind a class token.

Source: Dosovitskiy and others, "An Image is Worth 16x16 Words", 2021.
"""

from __future__ import annotations

from typing import Final

import torch

from lincoln_fn.combine import branch, serial
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures.family import ACTIVATIONS, Family, Network, Options
from lincoln_fn.layers.class_token import class_token
from lincoln_fn.layers.conv import conv2d
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.flatten import flatten
from lincoln_fn.layers.identity import identity
from lincoln_fn.layers.layer_norm import layer_norm
from lincoln_fn.layers.permute import permute
from lincoln_fn.layers.positional_embedding import positional_embedding
from lincoln_fn.layers.take import take

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


def _sizes(size: int | list[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _norm(options: Options) -> Layer:
    return layer_norm(eps=options.layer_norm_eps)


def _patches(options: Options) -> Layer:
    """Make the layers from an image to its patches' features, with positions."""
    image, patch = _sizes(options.image_size), _sizes(options.patch_size)
    count = (image[0] // patch[0]) * (image[1] // patch[1])
    return serial(
        conv2d(options.hidden_size, patch, patch),
        flatten(2),
        permute(0, 2, 1),
        class_token(),
        positional_embedding(count + 1),
        _parts.maybe_dropout(options.hidden_dropout_prob),
    )


def _block(options: Options) -> Layer:
    sublayers = _parts.sublayers(options, options.attention_probs_dropout_prob)
    p = options.hidden_dropout_prob
    return _parts.pre_norm(_norm(options), *sublayers, p, has_mask=False)


def _network(options: Options, head: Layer, *, is_bare: bool = False, **places: str) -> Network:
    """Make a network with a head, whose dense layer is at a path."""
    blocks = serial(*(_block(options) for _ in range(options.num_hidden_layers)))
    net = serial(_patches(options), blocks, _norm(options), head)
    shape = (1, options.num_channels, *_sizes(options.image_size))
    return Network(net, torch.empty(shape, device="meta"), places, is_bare=is_bare)


def _model(options: Options) -> Network:
    n = options.pooler_output_size or options.hidden_size
    pooler = serial(take(0, -2), dense(n), ACTIVATIONS[options.pooler_act]())
    head = branch(identity(), pooler, merge=identity())
    return _network(options, head, is_bare=True, pooler="3.1.1")


def _classifier(options: Options) -> Network:
    return _network(options, serial(take(0, -2), dense(options.num_labels)), classifier="3.1")


VIT: Final = Family(
    defaults={
        "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
        "hidden_size": 768, "image_size": 224, "intermediate_size": 3072, "layer_norm_eps": 1e-12,
        "num_attention_heads": 12, "num_channels": 3, "num_hidden_layers": 12, "patch_size": 16,
        "pooler_act": "tanh", "pooler_output_size": None, "qkv_bias": True,
    },
    supported={
        "hidden_act": tuple(ACTIVATIONS), "pooler_act": tuple(ACTIVATIONS), "qkv_bias": (True,),
    },
    architectures={"ViTModel": _model, "ViTForImageClassification": _classifier},
    names=_NAMES,
    prefix="vit.",
    # The names of the model in memory, since transformers 5.
    renamed=(
        *(
            (rf"\blayers\.(\d+)\.attention\.{part[0]}_proj\b",
             rf"layers.\1.attention.attention.{part}")
            for part in ("query", "key", "value")
        ),
        (r"\blayers\.(\d+)\.attention\.o_proj\b", r"layers.\1.attention.output.dense"),
        (r"\blayers\.(\d+)\.mlp\.fc1\b", r"layers.\1.intermediate.dense"),
        (r"\blayers\.(\d+)\.mlp\.fc2\b", r"layers.\1.output.dense"),
        (r"\blayers\.(\d+)\.", r"encoder.layer.\1."),
    ),
    harmless=frozenset({"encoder_stride"}),
)  # fmt: skip
