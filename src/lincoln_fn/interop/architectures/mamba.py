"""Mamba: blocks of an RMS norm and a selective scan, without attention.

Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn.combine import PATHS, mamba, residual, serial, tied
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures.family import Family, Network, Options
from lincoln_fn.layers.common.constructors import ours

_NAMES: Final = """
    backbone.embeddings                     0
    backbone.layers.#.norm                  1.#.0.0
    backbone.layers.#.mixer.in_proj         {signal,gate}
    backbone.layers.#.mixer.conv1d          conv
    backbone.layers.#.mixer.x_proj          {step_in,B,C}
    backbone.layers.#.mixer.dt_proj         step_out
    backbone.layers.#.mixer.{A_log,D}       scan.{log_rate,skip}
    backbone.layers.#.mixer.out_proj        output
    backbone.norm_f                         1.#
    lm_head                                 2
"""
_PLACES: Final = {part: f"1.#.0.1.{path}" for part, path in PATHS.items()}


def _block(options: Options) -> Layer:
    rank = options.time_step_rank
    mixer = mamba(
        options.hidden_size,
        options.state_size,
        expand=options.expand,
        conv_kernel=options.conv_kernel,
        time_step_rank=None if rank == "auto" else rank,
        bias=options.use_bias,
        conv_bias=options.use_conv_bias,
    )
    return residual(serial(ours.rms_norm(eps=options.layer_norm_epsilon), mixer))


def _network(options: Options, *, has_head: bool) -> Network:
    ties = has_head and options.tie_word_embeddings
    norm = ours.rms_norm(eps=options.layer_norm_epsilon)
    body = serial(*(_block(options) for _ in range(options.num_hidden_layers)), norm)
    tokens = ours.embedding(options.vocab_size, options.hidden_size)
    head = (ours.dense(options.vocab_size, bias=False),) if has_head and not ties else ()
    net = tied(tokens, body) if ties else serial(tokens, body, *head)
    copies = {"lm_head.weight": "backbone.embeddings.weight"} if ties else {}
    return Network(net, _parts.token_ids(), _PLACES, is_bare=not has_head, copies=copies)


FAMILIES: Final = {"mamba": Family(
    options={
        "conv_kernel": 4, "expand": 2, "hidden_act": ("silu", "swish"), "hidden_size": 768,
        "layer_norm_epsilon": 1e-5, "num_hidden_layers": 32, "state_size": 16,
        "tie_word_embeddings": True, "time_step_rank": "auto", "use_bias": False,
        "use_conv_bias": True, "vocab_size": 50280,
    },
    architectures=_parts.models("Mamba", _network),
    names=_NAMES,
    prefix="backbone.",
    # The name in the first files.
    renamed=((r"\bembedding\.", "embeddings."),),
    # Of how it begins, or of the code that computes it.
    harmless=frozenset({
        "intermediate_size", "rescale_prenorm_residual", "residual_in_fp32", "time_step_floor",
        "time_step_init_scheme", "time_step_max", "time_step_min", "time_step_scale",
        "use_associative_scan", "use_mambapy",
    }),
)}  # fmt: skip
