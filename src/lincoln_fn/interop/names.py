"""torch's names and layouts for the parameters of each of our layers.

The table `KINDS` has a row for each class of parameters. Its `slots` pair a name in torch's
`state_dict` with the fields that hold the same numbers here. Its `example` makes an example input
from the tensors by torch's names; from it the layer's own `init` finds the same shapes.

A layout serves both directions. torch applies its matrices from the left, and a dense layer here
from the right, so some matrices are transposed. Where torch joins several tensors into one, they
are joined along its first axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lincoln_fn import layers
from lincoln_fn.combine import gated_feed_forward
from lincoln_fn.core import Arrays

NamedTensors: TypeAlias = Mapping[str, Tensor]
# Any: hyperparameters of any kind.
Hyperparameters: TypeAlias = Mapping[str, Any]


class Slot(NamedTuple):
    """A torch name, the paths of the leaves that its tensor is made of, and its layout."""

    name: str
    fields: tuple[str, ...]
    transposed: bool = False
    # The axis of torch's tensor along which those of several leaves are joined.
    dim: int = 0
    # How many axes of length 1 torch's tensor has in front.
    leading: int = 0

    def joined(self, leaves: Iterable[Tensor]) -> Tensor:
        """Convert tensors to torch's layout.

        Args:
            leaves: ours, one for each of the fields.

        Returns:
            torch's tensor, in new memory.
        """
        parts = [leaf.detach().mT if self.transposed else leaf.detach() for leaf in leaves]
        if len(parts) > 1:
            whole = torch.cat(parts, self.dim)
        else:
            whole = parts[0].clone(memory_format=torch.contiguous_format)
        return whole.reshape((1,) * self.leading + whole.shape)

    def divided(self, tensor: Tensor, leaves: Iterable[Tensor]) -> list[Tensor]:
        """Split one of torch's tensors.

        Args:
            tensor: torch's, of the shape that `joined` makes.
            leaves: tensors of our shapes, one for each of the fields.

        Returns:
            Ours, one for each of the fields; they share torch's memory.
        """
        whole = tensor.detach().reshape(tensor.shape[self.leading :])
        if len(self.fields) == 1:
            return [whole.mT if self.transposed else whole]
        sizes = [(leaf.mT if self.transposed else leaf).shape[self.dim] for leaf in leaves]
        parts = torch.split(whole, sizes, self.dim)
        return [part.mT if self.transposed else part for part in parts]

    def below(self, name: str, path: str) -> Slot:
        """Return the same slot within a larger module and a larger tree.

        Args:
            name: the prefix of torch's name.
            path: the prefix of the fields' paths.
        """
        fields = tuple(path + field for field in self.fields)
        return self._replace(name=name + self.name, fields=fields)


class Naming(NamedTuple):
    """A row of the table: the slots of parameters, and an example input made of torch's tensors."""

    slots: Callable[[Any], Iterable[Slot]]  # Any: parameters of the row's class
    example: Callable[[NamedTensors, Hyperparameters], Arrays]


def same(*names: str) -> list[Slot]:
    """Make slots for tensors with the same names and layout in torch.

    Args:
        *names: the names.
    """
    return [Slot(name, (name,)) for name in names]


def like(*shape: int) -> Tensor:
    """Make an example input, of which only the shape matters.

    Args:
        *shape: its shape.

    Returns:
        A tensor on `meta`.
    """
    return torch.empty(shape, device="meta")


def size(names: NamedTensors, name: str, axis: int, default: int = 1) -> int:
    """Look up a size.

    Args:
        names: tensors by torch's names.
        name: of the tensor.
        axis: which of its sizes.
        default: for a tensor that is missing, or lacks the axis.
    """
    shape = names[name].shape if isinstance(names.get(name), Tensor) else ()
    return shape[axis] if len(shape) > axis else default


def _fixed(*slots: Slot) -> Callable[[Any], Iterable[Slot]]:
    return lambda params: slots


def _cells(params: Any) -> Iterable[Slot]:  # Any: of rnn, gru or lstm
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
        return like(1, 1, size(names, "in_proj_weight", 1, n))
    return tuple(like(1, 1, size(names, f"{part}_proj_weight", 1, n)) for part in "qkv")


def _parts(**fields: str) -> Callable[[Any], Iterable[Slot]]:
    """Make the slots of params that consist of other params: torch's prefix by field."""

    def slots(params: Any) -> Iterable[Slot]:  # Any: of the row's class
        for field, name in fields.items():
            part = getattr(params, field)
            if type(part) in KINDS:
                for slot in KINDS[type(part)].slots(part):
                    yield slot.below(f"{name}.", f"{field}.")

    return slots


def _row(names: NamedTensors, options: Hyperparameters) -> Tensor:
    """Make an example for a layer that normalises rows of the weight's shape."""
    if "weight" in names:
        return like(*names["weight"].shape)
    sizes = options["normalized_shape"]
    return like(*(max(n, 1) for n in (sizes if isinstance(sizes, tuple) else (sizes,))))


def _channels(places: int = 0) -> Callable[[NamedTensors, Hyperparameters], Tensor]:
    """Make an example maker for a layer with one number per channel in its parameters."""

    def example(names: NamedTensors, options: Hyperparameters) -> Tensor:
        name = "weight" if "weight" in names else "running_mean"
        channels = size(names, name, 0, options.get("num_groups", 1))
        return like(1, channels, *(1,) * (options.get("spatial_axes") or places))

    return example


def _kernel(axis: int) -> Callable[[NamedTensors, Hyperparameters], Tensor]:
    """Make an example maker for a convolution whose weight has x's channels on an axis."""

    def example(names: NamedTensors, options: Hyperparameters) -> Tensor:
        groups = options["groups"]
        channels = size(names, "weight", axis, groups if axis == 0 else 1)
        channels = channels if axis == 0 else channels * groups
        return like(1, channels, *options["kernel_size"])

    return example


_RUNNING = (
    Slot("running_mean", ("running.mean",)),
    Slot("running_var", ("running.var",)),
    Slot("num_batches_tracked", ("running.num_batches",)),
)
_AFFINE = _fixed(*same("weight", "bias"))
_NORM = _fixed(*same("weight", "bias"), *_RUNNING)
_WEIGHT = _fixed(*same("weight"))
_RECURRENT = Naming(_cells, lambda names, options: like(1, 1, size(names, "weight_ih_l0", 1)))

_PROJECTIONS = _parts(
    query="q_proj", key="k_proj", value="v_proj",
    query_norm="q_norm", key_norm="k_norm", output="o_proj",
)  # fmt: skip

KINDS: Final[dict[type, Naming]] = {
    layers.dense.Params: Naming(
        _fixed(Slot("weight", ("weight",), True), *same("bias")),
        lambda names, options: like(1, size(names, "weight", 1)),
    ),
    layers.bilinear.Params: Naming(
        _AFFINE,
        lambda names, options: tuple(like(1, size(names, "weight", axis)) for axis in (1, 2)),
    ),
    layers.conv.Params: Naming(_AFFINE, _kernel(1)),
    layers.conv_transpose.Params: Naming(_AFFINE, _kernel(0)),
    layers.batch_norm.Params: Naming(_NORM, _channels()),
    layers.instance_norm.Params: Naming(_NORM, _channels(1)),
    layers.group_norm.Params: Naming(_AFFINE, _channels()),
    layers.layer_norm.Params: Naming(_AFFINE, _row),
    layers.rms_norm.Params: Naming(_WEIGHT, _row),
    layers.embedding.Params: Naming(_WEIGHT, lambda names, options: like(1).long()),
    layers.positional_embedding.Params: Naming(
        _WEIGHT, lambda names, options: like(1, 1, size(names, "weight", 1))
    ),
    layers.bias.Params: Naming(
        _fixed(*same("bias")), lambda names, options: like(1, size(names, "bias", 0))
    ),
    layers.class_token.Params: Naming(
        _WEIGHT, lambda names, options: like(1, 1, size(names, "weight", 0))
    ),
    layers.relative_position_bias.Params: Naming(_WEIGHT, lambda names, options: like(1, 1, 1)),
    layers.cosine_similarities.Params: Naming(
        _fixed(*same("log_scale")), lambda names, options: (like(1, 1), like(1, 1))
    ),
    layers.graph_attention.Params: Naming(
        _fixed(*same("source", "target")),
        lambda names, options: (
            like(1, size(names, "source", 0) * size(names, "source", 1)),
            like(2, 1).long(),
        ),
    ),
    layers.selective_scan.Params: Naming(
        _fixed(Slot("A_log", ("log_rate",), True), Slot("D", ("skip",))),
        lambda names, options: (
            *(like(1, 1, size(names, "D", 0)) for _ in range(2)),
            *(like(1, 1, size(names, "A_log", 1)) for _ in range(2)),
        ),
    ),
    layers.gated_linear_recurrence.Params: Naming(
        _fixed(Slot("recurrent_param", ("decay",))),
        lambda names, options: (like(1, 1, size(names, "recurrent_param", 0)),) * 3,
    ),
    layers.prelu.Params: Naming(_WEIGHT, lambda names, options: like(1, options["num_parameters"])),
    layers.rnn.Params: _RECURRENT,
    layers.gru.Params: _RECURRENT,
    layers.lstm.Params: _RECURRENT,
    layers.recurrent_cell.Params: Naming(
        _fixed(
            Slot("weight_ih", ("weight_ih",), True),
            Slot("weight_hh", ("weight_hh",), True),
            *same("bias_ih", "bias_hh"),
        ),
        lambda names, options: like(1, size(names, "weight_ih", 1)),
    ),
    layers.multi_head_attention.Params: Naming(_heads, _heads_example),
    layers.grouped_query_attention.Params: Naming(
        _PROJECTIONS,
        lambda names, options: like(1, 1, size(names, "q_proj.weight", 1, options["num_heads"])),
    ),
    gated_feed_forward.Params: Naming(
        _parts(gate="gate_proj", up="up_proj", down="down_proj"),
        lambda names, options: like(1, size(names, "gate_proj.weight", 1)),
    ),
    # torch draws from its own generator, so a key has no name there.
    layers.dropout.Params: Naming(_fixed(), lambda names, options: like(1)),
    layers.rrelu.Params: Naming(_fixed(), lambda names, options: like(1)),
    layers.fractional_max_pool.Params: Naming(_fixed(), lambda names, options: like(1)),
}
