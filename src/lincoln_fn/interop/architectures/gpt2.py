"""GPT-2: learned positions, and blocks that normalise their sublayers' inputs.

Source: Radford and others, "Language Models are Unsupervised Multitask Learners", 2019.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn.combine.context import select, with_context
from lincoln_fn.combine.serial import serial
from lincoln_fn.core.layer import Layer
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures._parts import PRE_NORM, Placed
from lincoln_fn.interop.architectures.family import (
    ACTIVATIONS,
    Family,
    Network,
    Options,
    plain,
)
from lincoln_fn.interop.names import Slot
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.embedding import embedding
from lincoln_fn.layers.layer_norm import layer_norm
from lincoln_fn.layers.multi_head_attention import multi_head_attention
from lincoln_fn.layers.positional_embedding import positional_embedding

_INPUTS: Final = ("input_ids", "attention_mask")
_CAUSAL_MASKS: Final = r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias"


def _block(options: Options) -> Layer:
    n = options.n_embd
    return _parts.pre_norm(
        layer_norm(eps=options.layer_norm_epsilon),
        multi_head_attention(options.n_head, dropout=options.attn_pdrop, is_causal=True),
        _parts.feed_forward(
            options.n_inner or 4 * n, ACTIVATIONS[options.activation_function](), n
        ),
        options.resid_pdrop,
    )


def _body(options: Options) -> Layer:
    positions = positional_embedding(options.n_positions)
    return with_context(
        serial(select(0), positions, _parts.maybe_dropout(options.embd_pdrop)),
        *(_block(options) for _ in range(options.n_layer)),
        serial(select(0), layer_norm(eps=options.layer_norm_epsilon)),
    )


def _conv1d(name: str, *paths: str) -> list[Slot]:
    """Make the slots of a matrix that is applied from the right, as dense layers' here."""
    weights, biases = (tuple(f"{path}.{f}" for path in paths) for f in ("weight", "bias"))
    return [Slot(f"{name}.weight", weights, dim=1), Slot(f"{name}.bias", biases)]


def _block_slots(name: str, path: str) -> list[Slot]:
    at = {part: f"{path}.{inner}" for part, inner in PRE_NORM.items()}
    projections = (f"{at['attention']}.{part}" for part in ("query", "key", "value"))
    return [
        *plain(f"{name}.ln_1", at["norm1"]),
        *_conv1d(f"{name}.attn.c_attn", *projections),
        *_conv1d(f"{name}.attn.c_proj", f"{at['attention']}.output"),
        *plain(f"{name}.ln_2", at["norm2"]),
        *_conv1d(f"{name}.mlp.c_fc", f"{at['feed_forward']}.0"),
        *_conv1d(f"{name}.mlp.c_proj", f"{at['feed_forward']}.2"),
    ]


def _slots(options: Options, prefix: str, placed: Placed) -> list[Slot]:
    blocks = range(options.n_layer)
    return [
        *plain(f"{prefix}wte", placed.embedding),
        *plain(f"{prefix}wpe", f"{placed.body}.0.1"),
        *(s for i in blocks for s in _block_slots(f"{prefix}h.{i}", f"{placed.body}.{i + 1}")),
        *plain(f"{prefix}ln_f", f"{placed.body}.{options.n_layer + 1}.1"),
    ]


def _model(options: Options) -> Network:
    placed = _parts.of_tokens(_INPUTS, _embedding(options), _body(options))
    return Network(placed.net, _slots(options, "", placed), _parts.token_ids(), (_CAUSAL_MASKS,))


def _language_model(options: Options) -> Network:
    ties = options.tie_word_embeddings
    head = None if ties else dense(options.vocab_size, bias=False)
    placed = _parts.of_tokens(_INPUTS, _embedding(options), _body(options), head, ties=ties)
    slots = _slots(options, "transformer.", placed)
    if ties:
        copies = {"lm_head.weight": "transformer.wte.weight"}
        return Network(placed.net, slots, _parts.token_ids(), (_CAUSAL_MASKS,), copies)
    slots.append(Slot("lm_head.weight", (f"{placed.head}.weight",), transposed=True))
    return Network(placed.net, slots, _parts.token_ids(), (_CAUSAL_MASKS,))


def _embedding(options: Options) -> Layer:
    return embedding(options.vocab_size, options.n_embd)


GPT2: Final = Family(
    defaults={
        "activation_function": "gelu_new",
        "add_cross_attention": False,
        "attn_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "n_embd": 768,
        "n_head": 12,
        "n_inner": None,
        "n_layer": 12,
        "n_positions": 1024,
        "resid_pdrop": 0.1,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "vocab_size": 50257,
    },
    supported={
        "activation_function": tuple(ACTIVATIONS),
        "add_cross_attention": (False,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "scale_attn_weights": (True,),
    },
    architectures={"GPT2Model": _model, "GPT2LMHeadModel": _language_model},
    prefix="transformer.",
    # Of other heads, and of an order of operations that changes rounding alone.
    harmless=frozenset({
        "n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout",
        "summary_proj_to_labels", "summary_type", "summary_use_proj",
    }),
)  # fmt: skip
