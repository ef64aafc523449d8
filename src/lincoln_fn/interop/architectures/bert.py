"""BERT: learned positions and token types, and blocks that normalise their sublayers' sums.

Source: Devlin and others, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", 2019.
"""

from __future__ import annotations

from typing import Final

import torch

from lincoln_fn.combine.branch import branch
from lincoln_fn.combine.context import select, with_context
from lincoln_fn.combine.parallel import parallel
from lincoln_fn.combine.serial import serial
from lincoln_fn.core.declaration import declare
from lincoln_fn.core.layer import Arrays, Layer, Params
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures._parts import POST_NORM, Placed
from lincoln_fn.interop.architectures.family import (
    ACTIVATIONS,
    Family,
    Network,
    Options,
    linear,
    plain,
)
from lincoln_fn.interop.names import Slot
from lincoln_fn.layers.add import add
from lincoln_fn.layers.bias import bias
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.embedding import embedding
from lincoln_fn.layers.identity import identity
from lincoln_fn.layers.layer_norm import layer_norm
from lincoln_fn.layers.positional_embedding import positional_embedding
from lincoln_fn.layers.take import take
from lincoln_fn.layers.tanh import tanh

_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
_POSITIONS: Final = r"(bert\.)?embeddings\.position_ids"
# Heads of pretraining that a masked language model does not use.
_OTHER_HEADS: Final = (r"cls\.seq_relationship\..*", r"bert\.pooler\..*")


def _forward(params: Params, x: Arrays) -> tuple[Arrays, None]:
    """Replace token types that are not given by zeros."""
    h, mask, types = x
    zeros = torch.zeros(h.shape[:-1], dtype=torch.int64, device=h.device)
    return (h, mask, zeros if types is None else types), None


declare(_forward, kind="moving")


def _backward(params: Params, cache: None, g: Arrays) -> tuple[Arrays, Params]:
    """Return dx = g, in which token types have None."""
    return g, ()


_TOKEN_TYPES: Final = Layer("token_types()", _forward, _backward)


def _norm(options: Options) -> Layer:
    return layer_norm(eps=options.layer_norm_eps)


def _block(options: Options) -> Layer:
    sublayers = _parts.sublayers(options, options.attention_probs_dropout_prob)
    return _parts.post_norm(_norm(options), *sublayers, options.hidden_dropout_prob)


def _body(options: Options, *head: Layer) -> Layer:
    """Make the layers of (h, mask, token types), with h of the words' embedding."""
    others = parallel(
        positional_embedding(options.max_position_embeddings),
        embedding(options.type_vocab_size, options.hidden_size),
    )
    dropout = _parts.maybe_dropout(options.hidden_dropout_prob)
    embed = serial(select(0, 2), others, add(), _norm(options), dropout)
    blocks = (_block(options) for _ in range(options.num_hidden_layers))
    first = branch(embed, select(1), merge=identity())
    return serial(_TOKEN_TYPES, first, with_context(*blocks), *head)


def _block_slots(name: str, path: str) -> list[Slot]:
    at = {part: f"{path}.{inner}" for part, inner in POST_NORM.items()}
    parts = ("query", "key", "value")
    return [
        *(s for p in parts for s in linear(f"{name}.attention.self.{p}", f"{at['attention']}.{p}")),
        *linear(f"{name}.attention.output.dense", f"{at['attention']}.output"),
        *plain(f"{name}.attention.output.LayerNorm", at["norm1"]),
        *linear(f"{name}.intermediate.dense", f"{at['feed_forward']}.0"),
        *linear(f"{name}.output.dense", f"{at['feed_forward']}.2"),
        *plain(f"{name}.output.LayerNorm", at["norm2"]),
    ]


def _slots(options: Options, prefix: str, placed: Placed) -> list[Slot]:
    body, name = placed.body, f"{prefix}embeddings"
    layers = range(options.num_hidden_layers)
    return [
        *plain(f"{name}.word_embeddings", placed.embedding),
        *plain(f"{name}.position_embeddings", f"{body}.1.0.1.0"),
        *plain(f"{name}.token_type_embeddings", f"{body}.1.0.1.1"),
        *plain(f"{name}.LayerNorm", f"{body}.1.0.3"),
        *(s for i in layers for s in _block_slots(f"{prefix}encoder.layer.{i}", f"{body}.2.{i}")),
    ]


def _embedding(options: Options) -> Layer:
    return embedding(options.vocab_size, options.hidden_size, options.pad_token_id)


def _pooler(options: Options) -> Layer:
    return serial(take(0, -2), dense(options.hidden_size), tanh())


def _untied(options: Options, prefix: str, head: Layer, **names: str) -> Network:
    """Make a network whose head has dense layers, with paths in it by name."""
    placed = _parts.of_tokens(_INPUTS, _embedding(options), _body(options), head)
    slots = _slots(options, prefix, placed)
    for name, path in names.items():
        slots += linear(name.replace("__", "."), f"{placed.head}.{path}")
    return Network(placed.net, slots, _parts.token_ids(), (_POSITIONS,))


def _model(options: Options) -> Network:
    head = branch(identity(), _pooler(options), merge=identity())
    return _untied(options, "", head, pooler__dense="1.1")


def _dropout(options: Options) -> Layer:
    p = options.classifier_dropout
    return _parts.maybe_dropout(options.hidden_dropout_prob if p is None else p)


def _sequence_classifier(options: Options) -> Network:
    head = serial(_pooler(options), _dropout(options), dense(options.num_labels))
    return _untied(options, "bert.", head, bert__pooler__dense="0.1", classifier="2")


def _token_classifier(options: Options) -> Network:
    head = serial(_dropout(options), dense(options.num_labels))
    return _untied(options, "bert.", head, classifier="1")


def _masked_language_model(options: Options) -> Network:
    activation = ACTIVATIONS[options.hidden_act]()
    transform = serial(dense(options.hidden_size), activation, _norm(options))
    body = _body(options, transform)
    placed = _parts.of_tokens(_INPUTS, _embedding(options), body, bias(), ties=True)
    slots = [
        *_slots(options, "bert.", placed),
        *linear("cls.predictions.transform.dense", f"{placed.body}.3.0"),
        *plain("cls.predictions.transform.LayerNorm", f"{placed.body}.3.2"),
        *plain("cls.predictions", placed.head),
    ]
    copies = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    unused = (_POSITIONS, *_OTHER_HEADS)
    return Network(placed.net, slots, _parts.token_ids(), unused, copies)


BERT: Final = Family(
    defaults={
        "add_cross_attention": False,
        "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "is_decoder": False,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "type_vocab_size": 2,
        "vocab_size": 30522,
    },
    supported={
        "add_cross_attention": (False,),
        "hidden_act": tuple(ACTIVATIONS),
        "is_decoder": (False,),
        "position_embedding_type": ("absolute",),
        "tie_word_embeddings": (True,),
    },
    architectures={
        "BertModel": _model,
        "BertForMaskedLM": _masked_language_model,
        "BertForSequenceClassification": _sequence_classifier,
        "BertForTokenClassification": _token_classifier,
    },
    prefix="bert.",
    # TensorFlow's names.
    renamed=((r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),
)
