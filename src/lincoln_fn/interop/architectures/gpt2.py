"""GPT-2: learned positions, and blocks that normalise their sublayers' inputs.

Source: Radford and others, "Language Models are Unsupervised Multitask Learners", 2019.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn.combine import select, serial, with_context
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures.family import ACTIVATIONS, Family, Network, Options, one_of
from lincoln_fn.layers.common.constructors import ours

# The blocks' matrices are applied from the right, as dense layers' here.
_NAMES: Final = """
    transformer.wte                     embedding
    transformer.wpe                     body.0.1
    transformer.h.#.ln_{1,2}            body.#+1.{0.0.0.0,1.0.0}
    transformer.h.#.attn.c_attn         body.#+1.0.0.1.{query,key,value}    right
    transformer.h.#.attn.c_proj         body.#+1.0.0.1.output               right
    transformer.h.#.mlp.c_{fc,proj}     body.#+1.1.0.1.{0,2}                right
    transformer.ln_f                    body.#.1
    lm_head                             head
"""


def _block(options: Options) -> Layer:
    n = options.n_embd
    return _parts.pre_norm(
        ours.layer_norm(eps=options.layer_norm_epsilon),
        ours.multi_head_attention(options.n_head, dropout=options.attn_pdrop, is_causal=True),
        _parts.feed_forward(
            options.n_inner or 4 * n, ACTIVATIONS[options.activation_function](), n
        ),
        _parts.maybe_dropout(options.resid_pdrop),
    )


def _network(options: Options, *, has_head: bool) -> Network:
    positions = ours.positional_embedding(options.n_positions)
    body = with_context(
        serial(select(0), positions, _parts.maybe_dropout(options.embd_pdrop)),
        *(_block(options) for _ in range(options.n_layer)),
        serial(select(0), ours.layer_norm(eps=options.layer_norm_epsilon)),
    )
    return _parts.causal(options, options.n_embd, body, has_head=has_head, names=_NAMES)


FAMILIES: Final = {"gpt2": Family(
    options={
        "activation_function": one_of("gelu_new"), "add_cross_attention": (False,),
        "attn_pdrop": 0.1, "embd_pdrop": 0.1, "layer_norm_epsilon": 1e-5, "n_embd": 768,
        "n_head": 12, "n_inner": None, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
        "scale_attn_by_inverse_layer_idx": (False,), "scale_attn_weights": (True,),
        "tie_word_embeddings": True, "vocab_size": 50257,
    },
    architectures=_parts.models("GPT2", _network, head="LMHeadModel"),
    names=_NAMES,
    prefix="transformer.",
    unused=(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",),  # masks
    # Of other heads, and of an order of operations that changes rounding alone.
    harmless=frozenset({
        "n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout",
        "summary_proj_to_labels", "summary_type", "summary_use_proj",
    }),
)}  # fmt: skip
