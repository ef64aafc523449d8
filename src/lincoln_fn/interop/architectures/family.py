"""A family of pretrained models: its options, its networks, and the names of its parameters.

A family's file has Hugging Face's names of options and their defaults, a table of its names of
tensors (`_names.py`), and a function for each architecture that makes a `Network` of the options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, TypeAlias

from lincoln_fn.core import Arrays, Layer
from lincoln_fn.layers.common.constructors import ours

# Any: what config.json holds.
Config: TypeAlias = Mapping[str, Any]
# Any: the options of a family, as attributes.
Options: TypeAlias = Any


class Network(NamedTuple):
    """A network, and what its family's table of names has to know of it."""

    net: Layer
    # An example input on `meta`, for `init`.
    example: Arrays
    # Paths of its parts, by the words that the table has for them.
    places: Mapping[str, str] = {}
    # Whether it has no head: then its names are without the family's prefix.
    is_bare: bool = False
    # Names that a file may have besides: patterns of those without parameters of this network, and
    # those of tensors that are equal to another one.
    unused: tuple[str, ...] = ()
    copies: Mapping[str, str] = {}


class Family(NamedTuple):
    """What models of one `model_type` have in common."""

    # The defaults of all options that decide what is computed.
    defaults: Config
    # The values that are supported, of options where not all are.
    supported: Mapping[str, tuple[object, ...]]
    # By the name of the class in Hugging Face's library.
    architectures: Mapping[str, Callable[[Options], Network]]
    # The names of tensors, as `_names.py` reads them.
    names: str
    # What names begin with, except those of the model without a head.
    prefix: str = ""
    # Patterns of names that a file may have besides.
    unused: tuple[str, ...] = ()
    # Other names in use: patterns, and the name of a file that Hugging Face's library writes.
    renamed: tuple[tuple[str, str], ...] = ()
    # Tensors of a model in memory that are several in a file: a pattern of the name, and the
    # replacements that make the names in the file, with {} for the index along the first axis. The
    # tensors of one index are joined along the next axis.
    stacked: tuple[tuple[str, tuple[str, ...]], ...] = ()
    # Options that do not change what is computed, besides `HARMLESS`.
    harmless: frozenset[str] = frozenset()
    # Converts a config to the family's options, as where options are nested.
    flattened: Callable[[Config], Config] = dict


ACTIVATIONS: Final[dict[str, Callable[[], Layer]]] = {
    "gelu": ours.gelu,
    **dict.fromkeys(("gelu_fast", "gelu_new", "gelu_pytorch_tanh"), lambda: ours.gelu("tanh")),
    "quick_gelu": ours.quick_gelu,
    "relu": ours.relu,
    "silu": ours.silu,
    "swish": ours.silu,
    "tanh": ours.tanh,
}

# Options of every config that do not change what a network computes.
HARMLESS: Final = frozenset({
    "_attn_implementation", "_commit_hash", "_name_or_path", "architectures",
    "attn_implementation", "auto_map", "bos_token_id", "chunk_size_feed_forward", "cls_token_id",
    "decoder_start_token_id", "do_sample", "dtype", "eos_token_id", "finetuning_task",
    "forced_eos_token_id", "gradient_checkpointing", "id2label", "initializer_factor",
    "initializer_range", "is_llama_config", "keys_to_ignore_at_inference", "label2id",
    "mask_token_id", "max_length", "model_max_length", "model_type", "output_attentions",
    "output_hidden_states", "output_past", "pad_token_id", "pretraining_tp", "problem_type",
    "return_dict", "rope_interleaved", "sep_token_id", "task_specific_params", "temperature",
    "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript", "transformers.js_config",
    "transformers_version", "unk_token_id", "unsloth_fixed", "unsloth_version", "use_cache",
    "use_mrope",
})  # fmt: skip


def read_options(
    family: Family, config: Config, ignore: frozenset[str]
) -> tuple[Options, list[str]]:
    """Read the options of a config, with supported values in place of others; list the problems."""
    given = family.flattened(config)
    options = {**family.defaults, **given}
    problems = []
    for name, values in family.supported.items():
        if options[name] not in values:
            expected = " or ".join(repr(value) for value in values)
            problems.append(f"{name}: expected {expected}, got {options[name]!r}")
            options[name] = values[0]
    harmless = HARMLESS | family.harmless | ignore
    problems += [
        f"{name}: unknown option, got {value!r}"
        for name, value in given.items()
        if value
        and name not in family.defaults
        # An option of a part has the part's name in front.
        and harmless.isdisjoint((name, name.rpartition(".")[2]))
    ]
    options["num_labels"] = len(config.get("id2label") or (0, 1))
    return SimpleNamespace(**options), problems
