"""torch's names and layouts for the parameters of each of our layers.

The table `KINDS` has a row for each class of parameters, and `BLOCKS` one for each transformer
block. Its `slots` pair a name in torch's `state_dict` with the fields that hold the same numbers.
Its `example` makes an input from torch's tensors, from which the layer's `init` finds the shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import optree
import torch
from torch import Tensor

from lincoln_fn import combine, layers
from lincoln_fn.core import EVERYTHING, Arrays, Function, Params
from lincoln_fn.interop.slots import Slot

NamedTensors: TypeAlias = Mapping[str, Tensor]
# Any: hyperparameters of any kind.
Hyperparameters: TypeAlias = Mapping[str, Any]


class Naming(NamedTuple):
    """A row of the table: the slots of parameters, and an example input made of torch's tensors."""

    slots: Callable[[Params], Iterable[Slot]]
    example: Callable[[NamedTensors, Hyperparameters], Arrays]


def shaped(*shape: int) -> Tensor:
    """Make an example input on `meta`, of which only the shape matters."""
    return torch.empty(shape, device="meta")


def size(names: NamedTensors, name: str, axis: int, default: int = 1) -> int:
    """Look up a size of a tensor; the default is for one that is missing, or lacks the axis."""
    shape = names[name].shape if isinstance(names.get(name), Tensor) else ()
    return shape[axis] if len(shape) > axis else default


def _fixed(text: str) -> Callable[[Params], Iterable[Slot]]:
    """Read slots, as in "weight.T a=b": of torch's weight, transposed here, and of a, here b."""
    rows = [word.partition("=") for word in text.split()]
    slots = [Slot(name.removesuffix(".T"), (path or name.removesuffix(".T"),), name.endswith(".T"))
             for name, _, path in rows]  # fmt: skip
    return lambda params: slots


def _sizes(*entries: str) -> Callable[[NamedTensors, Hyperparameters], Arrays]:
    """Make an example maker, of sizes such as 2, "weight.1" along an axis, or an option."""

    def example(names: NamedTensors, options: Hyperparameters) -> Arrays:
        def read(word: str) -> int:
            name, _, number = word.rpartition(".")
            if not number.isdigit():
                return int(options[word])
            return size(names, name, int(number)) if name else int(number)

        made = tuple(shaped(*map(read, each.split())) for each in entries)
        return made if len(made) > 1 else made[0]

    return example


def _cells(params: Params) -> Iterable[Slot]:
    for k, pair in enumerate(params.cells):
        for d in range(len(pair)):
            for field in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                name = f"{field}_l{k}{'_reverse' if d else ''}"
                yield Slot(name, (f"cells.{k}.{d}.{field}",), field.startswith("weight"))


def _heads(params: layers.multi_head_attention.Params) -> Iterable[Slot]:
    parts = ("query", "key", "value")
    weights = tuple(f"{part}.weight" for part in parts)
    if len({len(getattr(params, part).weight) for part in parts}) == 1:
        yield Slot("in_proj_weight", weights, True)
    else:
        for part, weight in zip(parts, weights, strict=True):
            yield Slot(f"{part[0]}_proj_weight", (weight,), True)
    yield Slot("in_proj_bias", tuple(f"{part}.bias" for part in parts))
    yield Slot("out_proj.weight", ("output.weight",), True)
    yield Slot("out_proj.bias", ("output.bias",))


def _heads_example(names: NamedTensors, options: Hyperparameters) -> Arrays:
    n = size(names, "out_proj.weight", 1, options["num_heads"])
    if not any(f"{part}_proj_weight" in names for part in "qkv"):
        return shaped(1, 1, size(names, "in_proj_weight", 1, n))
    return tuple(shaped(1, 1, size(names, f"{part}_proj_weight", 1, n)) for part in "qkv")


def _projected_example(names: NamedTensors, options: Hyperparameters) -> Arrays:
    sizes = (size(names, f"{part}_proj.weight", 1, options["num_heads"]) for part in "qkv")
    return tuple(shaped(1, 1, n) for n in sizes)


def _parts(**fields: str) -> Callable[[Params], Iterable[Slot]]:
    """Make the slots of params that consist of other params: torch's prefix by field."""

    def slots(params: Params) -> Iterable[Slot]:
        for field, name in fields.items():
            part = getattr(params, field)
            if type(part) in KINDS:
                for slot in KINDS[type(part)].slots(part):
                    yield slot.below(f"{name}.", f"{field}.")

    return slots


def _row(names: NamedTensors, options: Hyperparameters) -> Tensor:
    """Make an example for a layer that normalises rows of the weight's shape."""
    if "weight" in names:
        return shaped(*names["weight"].shape)
    sizes = options["normalized_shape"]
    return shaped(*(max(n, 1) for n in (sizes if isinstance(sizes, tuple) else (sizes,))))


def _channels(places: int = 0) -> Callable[[NamedTensors, Hyperparameters], Tensor]:
    """Make an example maker for a layer with one number per channel in its parameters."""

    def example(names: NamedTensors, options: Hyperparameters) -> Tensor:
        name = "weight" if "weight" in names else "running_mean"
        channels = size(names, name, 0, options.get("num_groups", 1))
        return shaped(1, channels, *(1,) * (options.get("spatial_axes") or places))

    return example


def _kernel(axis: int) -> Callable[[NamedTensors, Hyperparameters], Tensor]:
    """Make an example maker for a convolution whose weight has x's channels on an axis."""

    def example(names: NamedTensors, options: Hyperparameters) -> Tensor:
        groups = options["groups"]
        channels = size(names, "weight", axis, groups if axis == 0 else 1)
        channels = channels if axis == 0 else channels * groups
        return shaped(1, channels, *options["kernel_size"])

    return example


_WEIGHT, _AFFINE = _fixed("weight"), _fixed("weight bias")
_NORM = _fixed(
    "weight bias running_mean=running.mean running_var=running.var "
    "num_batches_tracked=running.num_batches"
)
_RECURRENT = Naming(_cells, _sizes("1 1 weight_ih_l0.1"))
_PROJECTIONS = _parts(
    query="q_proj", key="k_proj", value="v_proj",
    query_norm="q_norm", key_norm="k_norm", output="o_proj",
)  # fmt: skip

KINDS: Final[dict[type, Naming]] = {
    layers.dense.Params: Naming(_fixed("weight.T bias"), _sizes("1 weight.1")),
    layers.bilinear.Params: Naming(_AFFINE, _sizes("1 weight.1", "1 weight.2")),
    layers.conv.Params: Naming(_AFFINE, _kernel(1)),
    layers.conv_transpose.Params: Naming(_AFFINE, _kernel(0)),
    layers.batch_norm.Params: Naming(_NORM, _channels()),
    layers.instance_norm.Params: Naming(_NORM, _channels(1)),
    layers.group_norm.Params: Naming(_AFFINE, _channels()),
    layers.layer_norm.Params: Naming(_AFFINE, _row),
    layers.rms_norm.Params: Naming(_WEIGHT, _row),
    layers.embedding.Params: Naming(_WEIGHT, lambda names, options: shaped(1).long()),
    layers.positional_embedding.Params: Naming(_WEIGHT, _sizes("1 1 weight.1")),
    layers.bias.Params: Naming(_fixed("bias"), _sizes("1 bias.0")),
    layers.class_token.Params: Naming(_WEIGHT, _sizes("1 1 weight.0")),
    layers.relative_position_bias.Params: Naming(_WEIGHT, _sizes("1 1 1")),
    layers.cosine_similarities.Params: Naming(_fixed("log_scale"), _sizes("1 1", "1 1")),
    layers.graph_attention.Params: Naming(
        _fixed("source target"),
        lambda names, options: (
            shaped(1, size(names, "source", 0) * size(names, "source", 1)),
            shaped(2, 1).long(),
        ),
    ),
    layers.selective_scan.Params: Naming(
        _fixed("A_log.T=log_rate D=skip"),
        _sizes("1 1 D.0", "1 1 D.0", "1 1 A_log.1", "1 1 A_log.1"),
    ),
    layers.gated_linear_recurrence.Params: Naming(
        _fixed("recurrent_param=decay"), _sizes(*("1 1 recurrent_param.0",) * 3)
    ),
    layers.prelu.Params: Naming(_WEIGHT, _sizes("1 num_parameters")),
    layers.rnn.Params: _RECURRENT,
    layers.gru.Params: _RECURRENT,
    layers.lstm.Params: _RECURRENT,
    layers.recurrent_cell.Params: Naming(
        _fixed("weight_ih.T weight_hh.T bias_ih bias_hh"), _sizes("1 weight_ih.1")
    ),
    layers.multi_head_attention.Params: Naming(_heads, _heads_example),
    layers.grouped_query_attention.Params: Naming(_PROJECTIONS, _projected_example),
    combine.gated_feed_forward.Params: Naming(
        _parts(gate="gate_proj", up="up_proj", down="down_proj"), _sizes("1 gate_proj.weight.1")
    ),
    # torch draws from its own generator, so a key has no name there.
    layers.dropout.Params: Naming(_fixed(""), _sizes("1")),
}


def owners(params: Params) -> list[tuple[str, Params]]:
    """List the params within a tree that are in the table, with their paths."""
    paths, parts, _ = optree.tree_flatten_with_path(
        params, is_leaf=lambda part: type(part) in KINDS, namespace=EVERYTHING
    )
    named = zip((".".join(map(str, path)) for path in paths), parts, strict=True)
    return [(path, part) for path, part in named if type(part) in KINDS]


# torch's names of a transformer block's parts, by class, in the order of its sublayers.
_PARTS: Final = {
    layers.multi_head_attention.Params: ("self_attn", "multihead_attn"),
    layers.dense.Params: ("linear1", "linear2"),
    layers.layer_norm.Params: ("norm1", "norm2", "norm3"),
}


def _block_slots(params: Params) -> Iterator[Slot]:
    parts = owners(params)
    for kind, names in _PARTS.items():
        own = ((path, part) for path, part in parts if type(part) is kind)
        for name, (path, part) in zip(names, own, strict=False):
            yield from (slot.below(f"{name}.", f"{path}.") for slot in KINDS[kind].slots(part))


def _decoder_example(names: NamedTensors, options: Hyperparameters) -> Arrays:
    n = size(names, "linear1.weight", 1)
    as_many = size(names, "multihead_attn.in_proj_weight", 1, n)  # in a memory as in x
    return shaped(1, 1, n), shaped(1, 1, size(names, "multihead_attn.k_proj_weight", 1, as_many))


# By constructor: transformer blocks, which are one module in torch, and what has the params of
# another layer. A room above adds its own.
BLOCKS: Final[dict[Function | None, Naming]] = {
    combine.transformer_encoder_block: Naming(_block_slots, _sizes("1 1 linear1.weight.1")),
    combine.transformer_decoder_block: Naming(_block_slots, _decoder_example),
    layers.linear_head.linear_head: KINDS[layers.dense.Params],
}
