"""A family of pretrained models: its options, its networks, and the names of its parameters.

A family's file has Hugging Face's names of options and their defaults, a table of its names of
tensors, and a function for each architecture that makes a `Network` of the options.

The table is read in both directions. A row is a name in the file, a path here, and perhaps the
layout of the tensor:

    encoder.layer.#.attention.{q,k}_proj    2.#+1.{query,key}
    encoder.layer.#.attention.qkv           2.#+1.{query,key,value}    right

Of both, ".weight" and ".bias" are left out, unless only the path has one. "#" is a number, and
"#+1" is one more than it. With as many alternatives in braces on both sides a row is several rows.
Alternatives of the path alone are joined to one tensor. The first word of a path may be a place
that the network names.

A dense layer's matrix is transposed in the file, unless the layout is "right": then it is applied
from the right, as here. A layout of "1" or "2" means as many axes of length 1 in front. "grouped"
tensors are joined group by group, as the query, key and value of a head, and then of the next head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, TypeAlias

from lincoln_fn.combine import serial
from lincoln_fn.core import Arrays, Layer, Params, tree
from lincoln_fn.interop.names import KINDS, owners
from lincoln_fn.interop.slots import Slot
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
    # How many groups of heads a tensor has that is joined group by group.
    groups: int = 1


class Family(NamedTuple):
    """What models of one `model_type` have in common."""

    # All options that decide what is computed: the default or, where not all values are supported,
    # a tuple of those that are, the default first.
    options: Config
    # By the name of the class in Hugging Face's library.
    architectures: Mapping[str, Callable[[Options], Network]]
    # The names of tensors, a table as above.
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

    @property
    def defaults(self) -> Config:
        """The default of each option."""
        return {name: v[0] if isinstance(v, tuple) else v for name, v in self.options.items()}


ACTIVATIONS: Final[dict[str, Callable[[], Layer]]] = {
    "gelu": ours.gelu,
    **dict.fromkeys(("gelu_fast", "gelu_new", "gelu_pytorch_tanh"), lambda: ours.gelu("tanh")),
    "quick_gelu": ours.quick_gelu,
    "relu": ours.relu,
    "relu2": lambda: serial(ours.relu(), ours.power(2.0)),
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


def one_of(default: str, known: Iterable[str] = ACTIVATIONS) -> tuple[str, ...]:
    """Put a default in front of the supported values."""
    return default, *(name for name in known if name != default)


def read_options(
    family: Family, config: Config, ignore: frozenset[str]
) -> tuple[Options, list[str]]:
    """Read the options of a config, with supported values in place of others; list the problems."""
    options = {**family.defaults, **family.flattened(config)}
    harmless = HARMLESS | family.harmless | ignore
    # An option of a part has the part's name in front.
    known = {name for name in options if not harmless.isdisjoint((name, name.rpartition(".")[2]))}
    supported = {name: v for name, v in family.options.items() if isinstance(v, tuple)}
    problems = option_problems(options, supported, known | family.options.keys())
    options |= {name: v[0] for name, v in supported.items() if options[name] not in v}
    options["num_labels"] = len(config.get("id2label") or (0, 1))
    return SimpleNamespace(**options), problems


def option_problems(
    options: Config, supported: Mapping[str, tuple[object, ...]], known: Collection[str]
) -> list[str]:
    """List the options with a value that is not supported, and those that are not known."""
    wrong = [
        f"{name}: expected {' or '.join(map(repr, values))}, got {options[name]!r}"
        for name, values in supported.items()
        if name in options and options[name] not in values
    ]
    return wrong + [
        f"{name}: unknown option, got {value!r}"
        for name, value in options.items()
        if value and name not in known
    ]


class _Row(NamedTuple):
    """A name, the paths whose parameters are joined under it, and the layout."""

    name: str
    paths: tuple[str, ...]
    layout: str = ""


def _read_pairs(table: str) -> list[_Row]:
    rows = []
    for theirs, paths_here, *layout in filter(None, map(str.split, table.splitlines())):
        names, paths = _alternatives(theirs), _alternatives(paths_here)
        parts = [(path,) for path in paths] if len(names) == len(paths) else [(*paths,)]
        rows += [_Row(name, part, *layout) for name, part in zip(names, parts, strict=True)]
    return rows


def read_names(table: str) -> dict[str, str]:
    """Read a table that has a name for each name."""
    return {row.name: row.paths[0] for row in _read_pairs(table)}


def _alternatives(text: str) -> list[str]:
    before, brace, rest = text.partition("{")
    inside, _, after = rest.partition("}")
    words, ends = inside.split(","), _alternatives(after) if brace else []
    return [before + word + end for word in words for end in ends] if brace else [text]


def find_slots(
    table: str, places: Mapping[str, str], params: Params, groups: int = 1
) -> list[Slot]:
    """Find the slot of each tensor in a file, in the order of params; places are paths by word."""
    rows = [
        (row, i, *_pattern(path, places))
        for row in _read_pairs(table)
        for i, path in enumerate(row.paths)
    ]
    found: dict[str, tuple[str, dict[int, str]]] = {}
    for path in tree.paths(params):
        for row, i, first, pattern in rows:
            if fit := pattern.fullmatch(path):
                break
        else:
            raise ValueError(f"the table of names has none for {path}")
        *numbers, ending = fit.groups("")
        name = row.name
        for number, start in zip(numbers, first, strict=True):
            name = name.replace("#", str(int(number) - start), 1)
        found.setdefault(name + ending, (row.layout, {}))[1][i] = path
    transposed = _transposed(params)
    return [
        _slot(name, layout, parts, transposed, groups) for name, (layout, parts) in found.items()
    ]


def _pattern(path: str, places: Mapping[str, str]) -> tuple[list[int], re.Pattern[str]]:
    """Return how the numbers in a path are counted, and the pattern of a parameter's path."""
    word, dot, rest = path.partition(".")
    text = re.escape(places.get(word, word) + dot + rest)
    first = [int(bool(more)) for more in re.findall(r"\\#(\\\+1)?", text)]
    text = text.replace(r"\#\+1", r"([1-9]\d*)").replace(r"\#", r"(\d+)")
    return first, re.compile(text + r"(\.weight|\.bias)?")


def _slot(
    name: str, layout: str, parts: Mapping[int, str], transposed: set[str], groups: int
) -> Slot:
    paths = tuple(parts[i] for i in sorted(parts))
    if layout == "grouped":
        return Slot(name, paths, paths[0] in transposed, groups=groups)
    if layout == "right":
        return Slot(name, paths, dim=int(name.endswith(".weight")))
    return Slot(name, paths, paths[0] in transposed, leading=int(layout or 0))


def _transposed(params: Params) -> set[str]:
    """Find the paths of the matrices that torch has transposed, by `KINDS`."""
    return {
        f"{path}.{field}".removeprefix(".")
        for path, owner in owners(params)
        for slot in KINDS[type(owner)].slots(owner)
        if slot.transposed
        for field in slot.fields
    }
