"""Adapters in the files of Hugging Face's PEFT, from which they go into `lora` and back.

For a matrix W of the model's file, (n_out, n_in), PEFT has A (r, n_in) and B (n_out, r): with its
adapter, the matrix is W + s B A. Here the matrices are transposed, so A and B are, too.

A matrix of the file may be several here, such as those of query, key and value:

    read       each gets A, and its own rows of B
    written    one A, if all have the same; else each A below the former, and B has blocks

Both ways compute the same function.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Key, Layer, LayerError, Params, checked, made_by, unexpected
from lincoln_fn.finetune.dora import DoraParams
from lincoln_fn.finetune.lora import LowRankParams, adapt, beside
from lincoln_fn.finetune.quantize import named_params
from lincoln_fn.interop import internal
from lincoln_fn.interop.internal import Model, Slot, by_path
from lincoln_fn.layers import dense
from lincoln_fn.layers.dropout import dropout as dropout_layer
from lincoln_fn.walk.internal import Pair, composition_of

Config: TypeAlias = dict[str, Any]  # Any: JSON of any kind
Folder: TypeAlias = str | os.PathLike[str]

_CONFIG: Final = "adapter_config.json"
_FILE: Final = "adapter_model.safetensors"
_NAME: Final = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
# Options that decide what is computed, with the values that are known.
_SUPPORTED: Final[dict[str, tuple[object, ...]]] = {
    "peft_type": ("LORA",), "bias": ("none",),
    # Others change the model's own matrices.
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}  # fmt: skip
_KNOWN: Final = {
    *_SUPPORTED,
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "eva_config", "exclude_modules",
    "fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform", "lora_alpha",
    "lora_dropout", "megatron_core", "peft_version", "qalora_group_size", "r", "rank_pattern",
    "revision", "target_modules", "task_type", "use_rslora",
}  # fmt: skip


def _names(module: str) -> tuple[str, str]:
    a, b = (f"base_model.model.{module}.lora_{letter}.weight" for letter in "AB")
    return a, b


class _Adapter(NamedTuple):
    """The matrices of one dense layer here, and the factor of their product."""

    lora_a: Tensor
    lora_b: Tensor
    factor: float
    dropout: float


@checked
def load_adapter(
    net: Layer, params: Params, config: Config, folder: Folder, *, key: Key = Key(0)
) -> tuple[Layer, Params]:
    """Put the adapter of a folder that PEFT has saved beside the layers of a pretrained network.

    The network and the params are those that `lora` would make, with A and B of the files.

    Args:
        net: as `interop.from_pretrained` returns it, with params and config.
        folder: with adapter_config.json and adapter_model.safetensors.
        key: dropout's keys are made from it.

    Raises:
        LayerError: if an option or a tensor's name or shape is not known; it lists all of them.

    Example:
        >>> net, params = lf.load_adapter(net, params, config, "my-lora")  # doctest: +SKIP
    """
    where, folder = "load_adapter", Path(folder)
    model, leaves = internal.fitting(where, config, params)
    places = {id(leaf): path.removesuffix(".weight") for path, leaf in leaves.items()}
    # The params' paths have no names of parts, and those of the targets have.
    paths = {
        places[id(own.weight)]: path
        for path, own in named_params(net, params)
        if isinstance(own, dense.Params)
    }
    try:
        given = internal.read_json(folder / _CONFIG)
        problems = internal.option_problems(given, _SUPPORTED, _KNOWN)
        with internal.opened(folder, _FILE) as stored:
            slots, unknown = _slots_of(model, stored.tensors)
            if problems or unknown:
                raise internal.refuse(where, problems + unknown)
            adapters = {
                paths.get(path, path): adapter
                for module, slot in slots.items()
                for a, b in [map(stored.read, _names(module))]
                for path, adapter in _read(slot, module, a, b, given, leaves)
            }
    except LayerError:
        raise
    except ValueError as error:
        raise LayerError(where, str(error)) from error

    def adapted(layer: Layer, params: Params, key: Key, path: str) -> Pair:
        own = adapters[path]
        a, b = (dense.Params(each.to(params.weight), None) for each in (own.lora_a, own.lora_b))
        return beside(layer, params, key, a, b, own.factor, own.dropout)

    return adapt(where, adapted, net, params, key, tuple(adapters))


@checked
def save_adapter(net: Layer, params: Params, config: Config, folder: Folder) -> None:
    """Save the updates that `lora` has made beside the layers of a pretrained network, for PEFT.

    Args:
        net: what `lora` or `load_adapter` has made.
        config: of the network without them, as `interop.from_pretrained` returns it.
        folder: made if it does not exist.

    Raises:
        LayerError: if there is no update, or one of a layer that the config's model does not have.

    Example:
        >>> lf.save_adapter(net, params, config, "my-lora")  # doctest: +SKIP
    """
    where, folder = "save_adapter", Path(folder)
    model, problems = internal.model_of(config)
    if model is None or problems:
        raise internal.refuse(where, problems)
    places = {id(leaf): path for path, leaf in internal.unfrozen(params).items()}
    adapters = {
        places[id(own.lora_a)].removesuffix(".lora_a.weight"): own
        for own in _adapters(where, net, params)
    }
    slots = [slot for slot in model.slots if not adapters.keys().isdisjoint(_owners(slot))]
    strange = adapters.keys() - {owner for slot in slots for owner in _owners(slot)}
    if strange or not adapters:
        raise unexpected(where, "updates of the model's dense layers", sorted(strange) or "none")
    dropouts = {own.dropout for own in adapters.values()}
    if len(dropouts) > 1:
        raise unexpected(where, "updates of one dropout, as files have one", sorted(dropouts))
    leaves, tensors = by_path(model.like), dict[str, Tensor]()
    ranks, alphas = {}, {}
    for slot in slots:
        module = slot.name.removesuffix(".weight")
        a, b, factor = _joined(slot, adapters, leaves)
        tensors |= zip(_names(module), (a, b), strict=True)
        ranks[module], alphas[module] = len(a), factor * len(a)
    r, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    is_causal = config["architectures"][0].endswith(("ForCausalLM", "LMHeadModel"))
    folder.mkdir(parents=True, exist_ok=True)
    internal.write_file(folder / _FILE, tensors, tensors.__getitem__)
    internal.write_json(folder / _CONFIG, {
        "alpha_pattern": {name: own for name, own in alphas.items() if own != alpha},
        "base_model_name_or_path": config.get("_name_or_path"), "bias": "none",
        "fan_in_fan_out": not slots[0].transposed, "inference_mode": True, "lora_alpha": alpha,
        "lora_dropout": dropouts.pop(), "peft_type": "LORA", "r": r,
        "rank_pattern": {name: own for name, own in ranks.items() if own != r},
        "target_modules": [*ranks], "task_type": "CAUSAL_LM" if is_causal else None,
    })  # fmt: skip


def _owners(slot: Slot) -> list[str]:
    return [path.removesuffix(".weight") for path in slot.fields]


def _slots_of(model: Model, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Slot], list[str]]:
    """Find the slot of each pair of A and B; list the tensors that are none, or of wrong shapes."""
    slots = {slot.name: slot for slot in model.slots}
    wholes = internal.expected(model.slots, by_path(model.like))
    fits = {name: _NAME.fullmatch(name) for name in tensors}
    modules = {f"{fit[1]}.weight": fit[1] for fit in fits.values() if fit}
    found, problems = {}, [f"{name}: unexpected" for name, fit in fits.items() if not fit]
    for name, own in internal.names_in(model, modules).items():
        module, slot = modules[own], slots.get(name)
        if slot is None or wholes[name].ndim != 2:
            wanted = "the name of a dense layer of the model"
            problems.append(f"{_names(module)[0]}: expected {wanted}")
            continue
        n_out, n_in = wholes[name].shape if slot.transposed else reversed(wholes[name].shape)
        shapes = [
            tuple(tensors[each].shape) if each in tensors else None for each in _names(module)
        ]
        r = shapes[0][0] if shapes[0] else 0
        if shapes != [(r, n_in), (n_out, r)] or not r:
            wanted = f"shapes (r, {n_in}) and ({n_out}, r) of A and B"
            problems.append(f"{module}: expected {wanted}, got {shapes[0]} and {shapes[1]}")
        found[module] = slot
    return found, problems


def _read(
    slot: Slot, module: str, a: Tensor, b: Tensor, config: Config, leaves: Mapping[str, Tensor]
) -> Iterator[tuple[str, _Adapter]]:
    """Divide an adapter of a matrix of the file among the dense layers here."""
    r = len(a)
    patterns = (config.get("alpha_pattern") or {}).items()
    # A pattern is of the end of a module's name.
    fits = (own for name, own in patterns if re.fullmatch(rf"(.*\.)?({name})", module))
    factor = next(fits, config.get("lora_alpha", 8)) / (r**0.5 if config.get("use_rslora") else r)
    own = [leaves[path].new_empty(r, leaves[path].shape[1]) for path in slot.fields]
    parts = slot.divided(b if slot.transposed else b.mT, own)
    for path, part in zip(_owners(slot), parts, strict=True):
        yield path, _Adapter(a.mT.clone(), part.clone(), factor, config.get("lora_dropout") or 0.0)


def _adapters(where: str, layer: Layer, params: Params) -> Iterator[_Adapter]:
    if isinstance(params, DoraParams):
        raise unexpected(where, "updates of lora", f"one of dora: {layer.name}")
    whole = composition_of(layer)
    if isinstance(params, LowRankParams):
        assert layer.spec is not None, "`low_rank` made it"
        drop = layer.spec["dropout"]
        p = drop.spec["p"] if made_by(drop, dropout_layer) else 0.0
        a, b = params.lora_a.weight, params.lora_b.weight
        yield _Adapter(a, b, layer.spec["factor"], p)
    elif whole is not None:
        for part, own in zip(whole.parts, whole.split_params(params), strict=True):
            yield from _adapters(where, part, own)


def _joined(
    slot: Slot, adapters: Mapping[str, _Adapter], leaves: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, float]:
    """Join the adapters of the dense layers of a matrix of the file; return A, B and the factor."""
    owners = _owners(slot)
    present = [adapters[owner] for owner in owners if owner in adapters]
    factor = present[0].factor
    rows: list[Tensor] = []
    blocks = []
    for first in present:
        if any(torch.equal(first.lora_a.mT, row) for row in rows):
            continue
        rows.append(first.lora_a.mT)
        parts = []
        for owner, path in zip(owners, slot.fields, strict=True):
            own = adapters.get(owner)
            if own is not None and torch.equal(own.lora_a, first.lora_a):
                parts.append(own.lora_b * (own.factor / factor))
            else:
                parts.append(first.lora_b.new_zeros(rows[-1].shape[0], leaves[path].shape[1]))
        whole = slot.joined(parts)
        blocks.append(whole if slot.transposed else whole.mT)
    return torch.cat(rows).contiguous(), torch.cat(blocks, 1).contiguous(), factor
