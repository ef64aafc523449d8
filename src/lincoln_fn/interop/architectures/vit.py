"""ViT: an image as a sequence of patches, behind a class token.

Source: Dosovitskiy and others, "An Image is Worth 16x16 Words", 2021.
"""

from __future__ import annotations

from typing import Final

import torch

from lincoln_fn.combine.branch import branch
from lincoln_fn.combine.serial import serial
from lincoln_fn.core.layer import Layer
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures._parts import PRE_NORM
from lincoln_fn.interop.architectures.family import (
    ACTIVATIONS,
    Family,
    Network,
    Options,
    linear,
    plain,
)
from lincoln_fn.interop.names import Slot
from lincoln_fn.layers.class_token import class_token
from lincoln_fn.layers.conv import conv2d
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.flatten import flatten
from lincoln_fn.layers.identity import identity
from lincoln_fn.layers.layer_norm import layer_norm
from lincoln_fn.layers.permute import permute
from lincoln_fn.layers.positional_embedding import positional_embedding
from lincoln_fn.layers.take import take


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


def _block_slots(name: str, path: str) -> list[Slot]:
    at = {part: f"{path}.{inner}" for part, inner in PRE_NORM.items()}
    attention, own = f"{name}.attention.attention", at["attention"]
    return [
        *(s for p in ("query", "key", "value") for s in linear(f"{attention}.{p}", f"{own}.{p}")),
        *linear(f"{name}.attention.output.dense", f"{own}.output"),
        *linear(f"{name}.intermediate.dense", f"{at['feed_forward']}.0"),
        *linear(f"{name}.output.dense", f"{at['feed_forward']}.2"),
        *plain(f"{name}.layernorm_before", at["norm1"]),
        *plain(f"{name}.layernorm_after", at["norm2"]),
    ]


def _network(options: Options, prefix: str, head: Layer, name: str, path: str) -> Network:
    """Make a network whose head has one dense layer, with its name and its path in the head."""
    layers = range(options.num_hidden_layers)
    blocks = serial(*(_block(options) for _ in layers))
    net = serial(_patches(options), blocks, _norm(options), head)
    slots = [
        Slot(f"{prefix}embeddings.cls_token", ("0.3.weight",), leading=2),
        Slot(f"{prefix}embeddings.position_embeddings", ("0.4.weight",), leading=1),
        *plain(f"{prefix}embeddings.patch_embeddings.projection", "0.0"),
        *(s for i in layers for s in _block_slots(f"{prefix}encoder.layer.{i}", f"1.{i}")),
        *plain(f"{prefix}layernorm", "2"),
        *linear(name, f"3.{path}"),
    ]
    shape = (1, options.num_channels, *_sizes(options.image_size))
    return Network(net, slots, torch.empty(shape, device="meta"))


def _model(options: Options) -> Network:
    n = options.pooler_output_size or options.hidden_size
    pooler = serial(take(0, -2), dense(n), ACTIVATIONS[options.pooler_act]())
    head = branch(identity(), pooler, merge=identity())
    return _network(options, "", head, "pooler.dense", "1.1")


def _classifier(options: Options) -> Network:
    head = serial(take(0, -2), dense(options.num_labels))
    return _network(options, "vit.", head, "classifier", "1")


VIT: Final = Family(
    defaults={
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": 768,
        "image_size": 224,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "num_hidden_layers": 12,
        "patch_size": 16,
        "pooler_act": "tanh",
        "pooler_output_size": None,
        "qkv_bias": True,
    },
    supported={
        "hidden_act": tuple(ACTIVATIONS),
        "pooler_act": tuple(ACTIVATIONS),
        "qkv_bias": (True,),
    },
    architectures={"ViTModel": _model, "ViTForImageClassification": _classifier},
    prefix="vit.",
    # The names of the model in memory, since transformers 5.
    renamed=(
        (r"\blayers\.(\d+)\.attention\.q_proj\b", r"layers.\1.attention.attention.query"),
        (r"\blayers\.(\d+)\.attention\.k_proj\b", r"layers.\1.attention.attention.key"),
        (r"\blayers\.(\d+)\.attention\.v_proj\b", r"layers.\1.attention.attention.value"),
        (r"\blayers\.(\d+)\.attention\.o_proj\b", r"layers.\1.attention.output.dense"),
        (r"\blayers\.(\d+)\.mlp\.fc1\b", r"layers.\1.intermediate.dense"),
        (r"\blayers\.(\d+)\.mlp\.fc2\b", r"layers.\1.output.dense"),
        (r"\blayers\.(\d+)\.", r"encoder.layer.\1."),
    ),
    harmless=frozenset({"encoder_stride"}),
)
