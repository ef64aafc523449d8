"""Mamba: blocks of an RMS norm and a selective scan, without attention.

Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from lincoln_fn.combine.branch import residual
from lincoln_fn.combine.mamba import PATHS, mamba
from lincoln_fn.combine.serial import serial
from lincoln_fn.combine.tied import tied
from lincoln_fn.core.layer import Layer
from lincoln_fn.interop.architectures import _parts
from lincoln_fn.interop.architectures.family import Family, Network, Options, linear, plain
from lincoln_fn.interop.names import Slot
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.embedding import embedding
from lincoln_fn.layers.rms_norm import rms_norm


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
    return residual(serial(rms_norm(eps=options.layer_norm_epsilon), mixer))


def _block_slots(name: str, path: str) -> list[Slot]:
    at = {part: f"{path}.0.1.{inner}" for part, inner in PATHS.items()}
    mixer = f"{name}.mixer"
    return [
        *plain(f"{name}.norm", f"{path}.0.0"),
        *linear(f"{mixer}.in_proj", at["signal"], at["gate"]),
        *plain(f"{mixer}.conv1d", at["conv"]),
        *linear(f"{mixer}.x_proj", at["step_in"], at["B"], at["C"]),
        *linear(f"{mixer}.dt_proj", at["step_out"]),
        Slot(f"{mixer}.A_log", (f"{at['scan']}.log_rate",), transposed=True),
        Slot(f"{mixer}.D", (f"{at['scan']}.skip",)),
        *linear(f"{mixer}.out_proj", at["output"]),
    ]


def _network(options: Options, *, has_head: bool) -> Network:
    n, ties = options.num_hidden_layers, has_head and options.tie_word_embeddings
    norm = rms_norm(eps=options.layer_norm_epsilon)
    body = serial(*(_block(options) for _ in range(n)), norm)
    tokens = embedding(options.vocab_size, options.hidden_size)
    head = dense(options.vocab_size, bias=False) if has_head and not ties else None
    rest = () if head is None else (head,)
    net = tied(tokens, body) if ties else serial(tokens, body, *rest)
    prefix = "backbone." if has_head else ""
    slots = [
        *plain(f"{prefix}embeddings", "0"),
        *(slot for i in range(n) for slot in _block_slots(f"{prefix}layers.{i}", f"1.{i}")),
        *plain(f"{prefix}norm_f", f"1.{n}"),
        *(linear("lm_head", "2") if head else ()),
    ]
    copies = {"lm_head.weight": "backbone.embeddings.weight"} if ties else {}
    return Network(net, slots, _parts.token_ids(), copies=copies)


MAMBA: Final = Family(
    defaults={
        "conv_kernel": 4,
        "expand": 2,
        "hidden_act": "silu",
        "hidden_size": 768,
        "layer_norm_epsilon": 1e-5,
        "num_hidden_layers": 32,
        "state_size": 16,
        "tie_word_embeddings": True,
        "time_step_rank": "auto",
        "use_bias": False,
        "use_conv_bias": True,
        "vocab_size": 50280,
    },
    supported={"hidden_act": ("silu", "swish")},
    architectures={
        "MambaModel": partial(_network, has_head=False),
        "MambaForCausalLM": partial(_network, has_head=True),
    },
    prefix="backbone.",
    # The name in the first files.
    renamed=((r"\bembedding\.", "embeddings."),),
    # Of how it begins, or of the code that computes it.
    harmless=frozenset({
        "intermediate_size", "rescale_prenorm_residual", "residual_in_fp32", "time_step_floor",
        "time_step_init_scheme", "time_step_max", "time_step_min", "time_step_scale",
        "use_associative_scan", "use_mambapy",
    }),
)  # fmt: skip
