"""BERT: learned positions and token types, and blocks that normalise their sublayers' sums.

Source: Devlin and others, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", 2019.
"""

from __future__ import annotations

from typing import Final

import torch

from lincoln_fn.combine import parallel, select, serial, with_context
from lincoln_fn.core import Arrays, Layer, Params, declare
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures.family import ACTIVATIONS, Family, Network, Options, one_of
from lincoln_fn.layers.common.constructors import ours

_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
_NAMES: Final = """
    bert.embeddings.word_embeddings                             embedding
    bert.embeddings.{position,token_type}_embeddings            body.1.0.1.{0,1}
    bert.embeddings.LayerNorm                                   body.1.0.3
    bert.encoder.layer.#.attention.self.{query,key,value}       body.2.#.0.0.0.0.{query,key,value}
    bert.encoder.layer.#.attention.output.dense                 body.2.#.0.0.0.0.output
    bert.encoder.layer.#.attention.output.LayerNorm             body.2.#.0.1
    bert.encoder.layer.#.{intermediate,output}.dense            body.2.#.1.0.0.0.{0,2}
    bert.encoder.layer.#.output.LayerNorm                       body.2.#.1.1
    bert.pooler.dense                                           pooler.1
    classifier                                                  classifier
    cls.predictions.transform.{dense,LayerNorm}                 body.3.{0,2}
    cls.predictions                                             head
"""


def _forward(params: Params, x: Arrays) -> tuple[Arrays, None]:
    """Replace token types that are not given by zeros."""
    h, mask, types = x
    zeros = torch.zeros(h.shape[:-1], dtype=torch.int64, device=h.device)
    return (h, mask, zeros if types is None else types), None


declare(_forward, kind="moving")


def _backward(params: Params, cache: None, g: Arrays) -> tuple[Arrays, Params]:
    return g, ()


_TOKEN_TYPES: Final = Layer("token_types()", _forward, _backward)


def _body(options: Options, *head: Layer) -> Layer:
    """Make the layers of (h, mask, token types), with h of the words' embedding."""
    others = parallel(
        ours.positional_embedding(options.max_position_embeddings),
        ours.embedding(options.type_vocab_size, options.hidden_size),
    )
    dropout = _parts.maybe_dropout(options.hidden_dropout_prob)
    embed = serial(select(0, 2), others, ours.add(), _parts.norm_of(options), dropout)
    sublayers = _parts.sublayers(options, options.attention_probs_dropout_prob)
    block = _parts.post_norm(_parts.norm_of(options), *sublayers, options.hidden_dropout_prob)
    blocks = (block,) * options.num_hidden_layers
    first = _parts.tuple_of(embed, select(1))
    return serial(_TOKEN_TYPES, first, with_context(*blocks), *head)


def _embedding(options: Options) -> Layer:
    return ours.embedding(options.vocab_size, options.hidden_size, options.pad_token_id)


def _pooler(options: Options) -> Layer:
    return serial(ours.take(0, -2), ours.dense(options.hidden_size), ours.tanh())


def _untied(options: Options, head: Layer, *, is_bare: bool = False, **paths: str) -> Network:
    """Make a network whose head has dense layers, with the paths in it of some."""
    network = _parts.of_tokens(_INPUTS, _embedding(options), _body(options), head, is_bare=is_bare)
    places = {name: f"{network.places['head']}.{path}" for name, path in paths.items()}
    return network._replace(places={**network.places, **places})


def _model(options: Options) -> Network:
    head = _parts.tuple_of(ours.identity(), _pooler(options))
    return _untied(options, head, is_bare=True, pooler="1")


def _dropout(options: Options) -> Layer:
    p = options.classifier_dropout
    return _parts.maybe_dropout(options.hidden_dropout_prob if p is None else p)


def _sequence_classifier(options: Options) -> Network:
    head = serial(_pooler(options), _dropout(options), ours.dense(options.num_labels))
    return _untied(options, head, pooler="0", classifier="2")


def _token_classifier(options: Options) -> Network:
    head = serial(_dropout(options), ours.dense(options.num_labels))
    return _untied(options, head, classifier="1")


def _masked_language_model(options: Options) -> Network:
    activation = ACTIVATIONS[options.hidden_act]()
    transform = serial(ours.dense(options.hidden_size), activation, _parts.norm_of(options))
    return _parts.of_tokens(
        _INPUTS, _embedding(options), _body(options, transform), ours.bias(), ties=True,
        copies={
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
        # Other heads of pretraining.
        unused=(r"cls\.seq_relationship\..*", r"bert\.pooler\..*"),
    )  # fmt: skip


FAMILIES: Final = {"bert": Family(
    options={
        "add_cross_attention": (False,), "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None, "hidden_act": one_of("gelu"), "hidden_dropout_prob": 0.1,
        "hidden_size": 768, "intermediate_size": 3072, "is_decoder": (False,),
        "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "num_attention_heads": 12,
        "num_hidden_layers": 12, "pad_token_id": 0, "position_embedding_type": ("absolute",),
        "tie_word_embeddings": (True,), "type_vocab_size": 2, "vocab_size": 30522,
    },
    architectures={
        "BertModel": _model,
        "BertForMaskedLM": _masked_language_model,
        "BertForSequenceClassification": _sequence_classifier,
        "BertForTokenClassification": _token_classifier,
    },
    names=_NAMES,
    prefix="bert.",
    unused=(r"(bert\.)?embeddings\.position_ids",),
    # TensorFlow's names.
    renamed=((r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),
)}  # fmt: skip
