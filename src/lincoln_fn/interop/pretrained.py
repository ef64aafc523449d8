"""Networks with pretrained weights, from and to folders of Hugging Face's library.

`architectures/` has a file for each family: the network that a config describes, and the names of
its parameters in a file. Neither reading nor writing needs Hugging Face's library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from lincoln_fn.core import FloatingDtype, Key, Layer, LayerError, Params, PositiveInt, checked
from lincoln_fn.interop.architectures import FAMILIES
from lincoln_fn.interop.architectures import family as families
from lincoln_fn.interop.architectures.family import Family, Network
from lincoln_fn.interop.slots import Slot, by_path, differences, expected, fill
from lincoln_fn.interop.stored import CONFIG, Json, Stored, opened, read_json, write

Config: TypeAlias = Json
Folder: TypeAlias = str | os.PathLike[str]

# Options that say how many parts a network has, and the most of them without a file of tensors.
_PARTS: Final = re.compile(r"(n_layer|num_(hidden_|decoder_)?layers|num_experts)$")
_MOST_PARTS: Final = 10_000


class Model(NamedTuple):
    """A config's network, params of its shapes on `meta`, and the slots that are in them."""

    family: Family
    network: Network
    like: Params
    slots: list[Slot]


def refuse(where: str, problems: Iterable[str]) -> LayerError:
    """Make the one error of all problems, a line for each."""
    return LayerError(where, "\n  ".join(("differs from what is known:", *problems)))


def model_of(
    config: Config, ignore: Iterable[str] = (), tensors: int = _MOST_PARTS
) -> tuple[Model | None, list[str]]:
    """Make the network of a config, with supported options in place of others; list the problems.

    Options in `ignore` may be unknown. There are no more layers or experts than tensors.
    """
    kind = config.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        return None, [f"model_type: expected one of {', '.join(sorted(FAMILIES))}, got {kind!r}"]
    problems: list[str] = []
    try:
        options, problems = families.read_options(family, config, frozenset(ignore))
        too_many = [
            f"{name}: expected at most {tensors}, as many as there are tensors, got {number!r}"
            for name, number in vars(options).items()
            if _PARTS.search(name) and isinstance(number, int) and number > tensors
        ]
        if too_many:
            return None, [*problems, *too_many]
        named = config.get("architectures") or [None]
        make = family.architectures.get(named[0])
        if make is None:
            known = " or ".join(family.architectures)
            return None, [*problems, f"architectures: expected [{known}], got {named!r}"]
        network = make(options)
        key = Key(torch.empty((), dtype=torch.int64, device="meta"))
        like = network.net.init(key, network.example)
        prefix = family.prefix if network.is_bare else ""
        found = families.find_slots(family.names, network.places, like, network.groups)
        slots = [slot._replace(name=slot.name.removeprefix(prefix)) for slot in found]
    except Exception as error:  # of any kind: an option may be anything, and is used everywhere
        return None, [*problems, f"the options do not fit together: {error}"]
    return Model(family, network, like, slots), problems


def assemble(
    where: str,
    config: Config,
    stored: Stored,
    *,
    key: Key,
    dtype: torch.dtype | None = None,
    ignore: tuple[str, ...] = (),
) -> tuple[Layer, Params]:
    """Make the network of a config, and its params of stored tensors, or list what is wrong."""
    skipped = [name for name in config if _matches(name, ignore)]
    model, problems = model_of(config, skipped, len(stored.tensors))
    if model is None:
        raise refuse(where, problems)
    names = names_in(model, stored.tensors)
    known = {name: stored.tensors[own] for name, own in names.items()
             if not _is_unused(name, model, ignore)}  # fmt: skip
    problems += differences(expected(model.slots, by_path(model.like)), known)
    problems += _unequal(model.network, names, stored)
    if problems:
        raise refuse(where, problems)
    params = fill(model.like, model.slots, lambda name: stored.read(names[name]), key, dtype)
    return model.network.net, params


def names_in(model: Model, stored: Iterable[str]) -> dict[str, str]:
    """Find the stored name for each name; one that is not expected stays as it is."""
    expected = {slot.name for slot in model.slots} | set(model.network.copies)
    prefix = model.family.prefix
    names = {}
    for own in stored:
        name = own
        for pattern, replacement in model.family.renamed:
            name = re.sub(pattern, replacement, name)
        forms = (name, prefix + name, name.removeprefix(prefix))
        names[next((form for form in forms if form in expected), own)] = own
    return names


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_unused(name: str, model: Model, ignore: tuple[str, ...]) -> bool:
    patterns = (*model.family.unused, *model.network.unused)
    is_unused = any(re.fullmatch(pattern, name) for pattern in patterns)
    return is_unused or name in model.network.copies or _matches(name, ignore)


def _unequal(network: Network, names: Mapping[str, str], stored: Stored) -> list[str]:
    pairs = [pair for pair in network.copies.items() if names.keys() >= set(pair)]
    return [
        f"{copy}: expected the numbers of {name}, because the config says that they are tied"
        for copy, name in pairs
        if not torch.equal(stored.read(names[copy]), stored.read(names[name]))
    ]


def unfrozen(params: Params) -> dict[str, Tensor]:
    """Return the tensors of params by their paths without `frozen`, whose field they are."""
    return {re.sub(r"\bparams\.", "", path): leaf for path, leaf in by_path(params).items()}


def fitting(where: str, config: Config, params: Params) -> tuple[Model, dict[str, Tensor]]:
    """Make the model of a config that params fit, and find their tensors by the model's paths."""
    given = unfrozen(params)
    model, problems = model_of(config, tensors=len(given))
    if model is not None:
        problems += differences(*(
            {f"params.{path}": leaf for path, leaf in each.items()}
            for each in (by_path(model.like), given)
        ))  # fmt: skip
    if model is None or problems:
        raise refuse(where, problems)
    return model, given


def _config_of(module: Any) -> Config:  # Any: torch does not know `config`
    return {**module.config.to_dict(), "architectures": [type(module).__name__]}


def of_pretrained(module: nn.Module, key: Key) -> tuple[Layer, Params]:
    """Make the network of a model of Hugging Face's library by its config, with its weights."""
    tensors = _unstacked(module)
    stored = Stored({n: t.to("meta") for n, t in tensors.items()}, tensors.__getitem__)
    try:
        return assemble("from_torch", _config_of(module), stored, key=key)
    except LayerError as error:
        problem = f"{error.problem}\nOr make one layer of it by from_module(module, call)."
        raise LayerError(error.where, problem) from error


def to_pretrained(module: nn.Module, params: Params) -> dict[str, Tensor]:
    """Copy params to the names and layouts of the model that `of_pretrained` was given."""
    model, leaves = fitting("to_state_dict", _config_of(module), params)
    slots = {slot.name: slot for slot in model.slots}
    named = {}
    for name, own in names_in(model, _unstacked(module)).items():
        slot = slots.get(model.network.copies.get(name, name))
        if slot is not None:
            named[own] = slot.joined(leaves[path] for path in slot.fields)
    return _restacked(module, named)


def _stacks(module: Any) -> dict[str, list[list[str]]]:  # Any: as above
    """List the tensors of a model that are several in a file: for each index, the names there."""
    family = FAMILIES.get(module.config.model_type)
    stacks = {}
    for name, tensor in module.state_dict().items():
        for pattern, replacements in family.stacked if family is not None else ():
            if re.search(pattern, name):
                forms = [re.sub(pattern, replacement, name) for replacement in replacements]
                stacks[name] = [[form.format(i) for form in forms] for i in range(len(tensor))]
    return stacks


def _unstacked(module: nn.Module) -> dict[str, Tensor]:
    """Return a model's tensors as a file has them; they share the model's memory."""
    tensors = dict(module.state_dict())
    for name, stack in _stacks(module).items():
        for names, whole in zip(stack, tensors.pop(name), strict=True):
            tensors.update(zip(names, whole.chunk(len(names)), strict=True))
    return tensors


def _restacked(module: nn.Module, named: dict[str, Tensor]) -> dict[str, Tensor]:
    stacks = _stacks(module)
    for name, stack in stacks.items():
        named[name] = torch.stack([torch.cat([named.pop(n) for n in names]) for names in stack])
    return {name: named[name] for name in module.state_dict() if name in named} if stacks else named


@checked
def from_config(config: Config) -> Layer:
    """Make the network that a config of Hugging Face's library describes, without weights.

    Args:
        config: what config.json holds, with `model_type` and `architectures`; other options have
            the library's defaults. An unknown type or option is an error, which lists all of them.

    Example:
        >>> sizes = {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 16, "vocab_size": 11}
        >>> config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **sizes}
        >>> net, ids = from_config(config), torch.tensor([[3, 1, 4]])
        >>> net.predict(net.init(lf.Key(0), ids), ids).shape
        torch.Size([1, 3, 11])
    """
    model, problems = model_of(config)
    if model is None or problems:
        raise refuse("from_config", problems)
    return model.network.net


@checked
def from_pretrained(
    folder: Folder,
    *,
    architecture: str | None = None,
    dtype: FloatingDtype | None = None,
    ignore: tuple[str, ...] = (),
    key: Key = Key(0),
) -> tuple[Layer, Params, Config]:
    """Make a network with the weights of a folder that Hugging Face's library has saved.

    x is what the model's `forward` takes first, such as input_ids, or (input_ids, attention_mask).
    Masks may be of integers, as tokenizers make them, or of bools. y is its logits, or of a model
    without a head its last hidden state. `predict` computes what the model computes after `eval()`,
    and `forward` what it computes in training, with dropout.

    Args:
        folder: with config.json and model.safetensors, or with several such files and their index.
        architecture: the model's class there, such as "GPT2LMHeadModel"; None for the config's.
        dtype: of the params; None for those in the files.
        ignore: options and names of tensors that may be left out, as patterns such as "cls.*".
        key: dropout's keys are made from it.

    Raises:
        LayerError: if a file cannot be read, or if the model's type, an option or the name or shape
            of a tensor is not known. The message lists everything that is not.

    Example:
        >>> net, params, config = from_pretrained("gpt2")  # doctest: +SKIP
    """
    where, folder = "from_pretrained", Path(folder)
    try:
        config = read_json(folder / CONFIG)
        if architecture is not None:
            config["architectures"] = [architecture]
        with opened(folder) as stored:
            net, params = assemble(where, config, stored, dtype=dtype, ignore=ignore, key=key)
    except LayerError:
        raise
    except ValueError as error:
        raise LayerError(where, str(error)) from error
    return net, params, config


@checked
def save_pretrained(
    net: Layer,
    params: Params,
    config: Config,
    folder: Folder,
    *,
    max_shard_size: PositiveInt = 5 * 10**9,
) -> None:
    """Save params as Hugging Face's library does, which then loads them, bit for bit.

    Tokenizers and settings of text generation are not part of it.

    Args:
        net: the network, which the config describes; its parts may be `frozen`.
        folder: made if it does not exist. Weights that it has already are replaced.
        max_shard_size: the most bytes in a file; more are divided, with an index.

    Raises:
        LayerError: if the params do not fit the network of the config: the message lists five
            of each kind; or if the files cannot be written.
    """
    where = "save_pretrained"
    model, given = fitting(where, config, params)
    slots = {slot.name: slot for slot in model.slots}
    tensors = expected(model.slots, given)
    dtypes = {str(t.dtype).removeprefix("torch.") for t in tensors.values()}
    config = {**config, "dtype": dtypes.pop()} if len(dtypes) == 1 else config

    def read(name: str) -> torch.Tensor:
        return slots[name].joined(given[path] for path in slots[name].fields)

    try:
        write(Path(folder), config, tensors, read, max_shard_size)
    except ValueError as error:
        raise LayerError(where, str(error)) from error
