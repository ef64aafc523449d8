"""Networks with the weights of a GGUF file, as llama.cpp has them.

The gguf library computes the numbers of quantised tensors. Here are llama.cpp's names, and what it
has changed in the tensors; gguf_head.py reads the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lincoln_fn.checkpoint.internal import read_bytes, reading
from lincoln_fn.core import FloatingDtype, Key, Layer, LayerError, Params, checked
from lincoln_fn.interop.architectures import FAMILIES
from lincoln_fn.interop.architectures.family import read_names
from lincoln_fn.interop.gguf_head import Entry, Option, read_head
from lincoln_fn.interop.pretrained import Config, assemble, refuse
from lincoln_fn.interop.stored import Stored

# llama.cpp's options, below the name of the architecture, and Hugging Face's. Braces are several
# rows, as in the tables of the families.
_OPTIONS: Final = read_names("""
    attention.head_count{,_kv}                        num_{attention,key_value}_heads
    attention.{key_length,layer_norm_rms_epsilon}     {head_dim,rms_norm_eps}
    attention.sliding_window                          sliding_window
    {attn,final}_logit_softcapping                    {attn,final}_logit_softcapping
    {block_count,context_length}                      {num_hidden_layers,max_position_embeddings}
    {embedding,feed_forward}_length                   {hidden,intermediate}_size
    rope.freq_base                                    rope_theta
    vocab_size                                        vocab_size
""")
# And its names of tensors' parts.
_NAMES: Final = read_names("""
    attn_{q,k,v,qkv,output}              self_attn.{q,k,v,qkv,o}_proj
    attn_{q,k}_norm                      self_attn.{q,k}_norm
    {attn,ffn}_norm                      {input,post_attention}_layernorm
    ffn_{gate,up,down}                   mlp.{gate,up,down}_proj
    output                               lm_head
    {output_norm,token_embd}             model.{norm,embed_tokens}
""")


def _undo_permutation(tensor: Tensor, config: Config, *, heads: str) -> Tensor:
    """Put the halves of a head's pairs of features side by side, as llama.cpp puts each pair."""
    # Of n features of a head, llama.cpp has i at 2 i, and i + n / 2 at 2 i + 1.
    by_pair = tensor.reshape(config[heads], -1, 2, *tensor.shape[1:])
    return by_pair.transpose(1, 2).reshape(tensor.shape)


def _score_scale(config: Config) -> Config:
    """Find what divides Gemma 2's scores, which llama.cpp knows by the number of layers."""
    if config.get("num_hidden_layers") != 46:
        return {"query_pre_attn_scalar": config.get("head_dim", 256)}
    return {"query_pre_attn_scalar": config["hidden_size"] // config["num_attention_heads"]}


class _Architecture(NamedTuple):
    """An architecture of llama.cpp: other names than the usual ones, and what to undo, by ends."""

    names: Mapping[str, str] = {}
    # (tensor, config) -> the tensor as Hugging Face's library has it
    undo: Mapping[str, Callable[[Tensor, Config], Tensor]] = {}
    # Options that llama.cpp does not write, because they follow from others.
    options: Callable[[Config], Config] = lambda config: {}


_QUERIES: Final = partial(_undo_permutation, heads="num_attention_heads")
_KEYS: Final = partial(_undo_permutation, heads="num_key_value_heads")
# By llama.cpp's name, which is that of a family here.
_KINDS: Final = {
    "llama": _Architecture(undo={".q_proj.weight": _QUERIES, ".k_proj.weight": _KEYS}),
    "qwen2": _Architecture(),
    "qwen3": _Architecture(),
    "phi3": _Architecture({"ffn_up": "mlp.gate_up_proj"}),
    "gemma2": _Architecture(
        {
            "ffn_norm": "pre_feedforward_layernorm",
            "post_attention_norm": "post_attention_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        },
        {"norm.weight": lambda tensor, config: tensor - 1},  # what llama.cpp has added
        _score_scale,
    ),
}


@checked
def from_gguf(
    path: str | os.PathLike[str],
    *,
    dtype: FloatingDtype = torch.float32,
    ignore: tuple[str, ...] = (),
    key: Key = Key(0),
) -> tuple[Layer, Params, Config]:
    """Make a network with the weights of a GGUF file, the format of llama.cpp.

    Quantised tensors become floating numbers, one tensor after the other. The gguf library is
    needed: `pip install lincoln_fn[gguf]`.

    Args:
        path: the file, of a model of the architecture llama (with Mistral and SmolLM), qwen2,
            qwen3, phi3 or gemma2, in any quantisation that the library can read, such as F16,
            BF16, Q8_0, Q4_0, Q4_1, Q4_K and Q6_K.
        ignore: options and names of tensors that may be left out, as patterns.
        key: dropout's keys are made from it.

    Returns:
        The network and its params, as `from_pretrained` makes them, and a config, with which
        `save_pretrained` writes a folder for Hugging Face's library.

    Raises:
        LayerError: if the file cannot be read, or if an option, a quantisation or the name or shape
            of a tensor is not known. The message lists everything that is not.

    Example:
        >>> net, params, config = from_gguf("SmolLM2-135M.gguf")  # doctest: +SKIP
    """
    where, gguf, file = "from_gguf", _library(), Path(path)
    if not file.is_file():
        raise LayerError(where, f"{file}: no such file")
    try:
        with reading(file) as (opened, size):
            options, parts = read_head(
                opened, size, lambda kind: gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
            )
            config, stored = _opened(where, gguf, opened, options, parts)
            net, params = assemble(where, config, stored, key=key, dtype=dtype, ignore=ignore)
    except LayerError:
        raise
    except Exception as error:  # of any kind, since what the numbers are used for may fail, too
        raise LayerError(where, f"{file} cannot be read as GGUF: {error}") from error
    return net, params, config


# Any: the module.
def _opened(
    where: str, gguf: Any, file: BinaryIO, options: Mapping[str, Option], parts: Mapping[str, Entry]
) -> tuple[Config, Stored]:
    architecture = options.get("general.architecture")
    kind = _KINDS.get(architecture) if isinstance(architecture, str) else None
    if kind is None:
        known = ", ".join(sorted(_KINDS))
        problem = f"general.architecture: expected one of {known}, got {architecture!r}"
        raise refuse(where, [problem])
    problems = [
        f"{name}: expected a positive number, got {options[name]!r}"
        for name in (f"{architecture}.{own}" for own in _OPTIONS)
        if isinstance(given := options.get(name, 1), str | bool) or not 0 < given < math.inf
    ]
    if problems:
        raise refuse(where, problems)
    named = {_renamed(kind, name): part for name, part in parts.items()}
    config = _config(kind, options, named)
    return config, _stored(gguf, kind, config, named, file)


def _library() -> Any:  # Any: the module
    try:
        import gguf  # type: ignore[import-not-found,unused-ignore]  # it may not be installed
        import gguf.quants  # type: ignore[import-not-found,unused-ignore]  # likewise
    except ImportError as error:
        install = "from_gguf needs the gguf library: pip install lincoln_fn[gguf]"
        raise ImportError(install) from error
    return gguf


def _renamed(kind: _Architecture, name: str) -> str:
    """Return Hugging Face's name for llama.cpp's, or the same for one that is not known."""
    stem, _, ending = name.rpartition(".")
    block, _, part = stem.rpartition(".")
    known = {**_NAMES, **kind.names}.get(part)
    if known is None:
        return name
    return f"{block.replace('blk.', 'model.layers.')}.{known}.{ending}".lstrip(".")


def _config(
    kind: _Architecture, options: Mapping[str, Option], parts: Mapping[str, Entry]
) -> Config:
    family = str(options["general.architecture"])
    prefix = f"{family}."
    own = {n.removeprefix(prefix): v for n, v in options.items() if n.startswith(prefix)}
    config: Config = {_OPTIONS.get(name, name): value for name, value in own.items()}
    table = parts.get("model.embed_tokens.weight")
    if table is not None:
        config.setdefault("vocab_size", table.shape[0])
    if "num_attention_heads" in config:
        heads = config["num_attention_heads"]
        config.setdefault("num_key_value_heads", heads)
        # As many features of a head are rotated, and values have as many, unless these differ.
        features = config.get("head_dim", config.get("hidden_size", 0) // heads)
        for name in ("rope.dimension_count", "attention.value_length"):
            if config.get(name) == features:
                del config[name]
    for name, field in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        if (given := options.get(f"tokenizer.ggml.{field}_token_id")) is not None:
            config[f"{name}_token_id"] = given
    return {
        "model_type": family,
        "architectures": [name for name in FAMILIES[family].architectures if "LM" in name],
        "tie_word_embeddings": "lm_head.weight" not in parts,
        **kind.options(config),
        **config,
    }


# Any: the module.
def _stored(
    gguf: Any, kind: _Architecture, config: Config, parts: Mapping[str, Entry], file: BinaryIO
) -> Stored:
    def read(name: str) -> Tensor:
        part = parts[name]
        file.seek(part.begin)
        raw = read_bytes(file, math.prod(part.byte_shape)).view(part.byte_shape).numpy()
        numbers = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(part.kind))
        made = torch.from_numpy(np.require(numbers, requirements="W"))
        for ending, undo in kind.undo.items():
            if name.endswith(ending):
                made = undo(made, config)
        return made

    shapes = {name: torch.empty(part.shape, device="meta") for name, part in parts.items()}
    return Stored(shapes, read)
