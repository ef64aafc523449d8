"""Parameters by torch's names and in torch's layouts, or as numpy arrays; and back.

Names are the paths of a tree of params, such as "0.weight"; `names.KINDS` gives their last parts,
which are a layer's own. Parameters that the table does not list keep their names and layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine import inference
from lincoln_fn.core import Key, Layer, LayerError, Params, Tree, check_argument, tree
from lincoln_fn.interop.names import BLOCKS, KINDS, NamedTensors, Naming
from lincoln_fn.interop.slots import Slot, by_path, differences, expected, fill, present
from lincoln_fn.interop.transformers import part_name
from lincoln_fn.layers.jvp import directed
from lincoln_fn.walk.internal import ENTRIES, Composition, composition_of


def name_tensors(layer: Layer, params: Params) -> dict[str, Tensor]:
    """Copy the tensors to torch's layouts, with names by position."""
    leaves = by_path(params)
    slots = _slots(layer, params)
    return {slot.name: slot.joined(leaves[path] for path in slot.fields) for slot in slots}


def from_state_dict(
    layer: Layer,
    state_dict: Mapping[str, Tensor],
    like: Params = None,
    *,
    key: Key = Key(0),
) -> Params:
    """Make parameters from torch's tensors by name: the inverse of `to_state_dict`.

    Args:
        state_dict: tensors by name; they are copied, in their own dtype and device.
        like: parameters of the layer, which give the structure, and the keys. None is enough for
            layers of this library: the tensors give the sizes.
        key: dropout's keys are made from it, without a like.

    Raises:
        LayerError: if names are missing or unexpected, or shapes wrong: the message lists five
            of each. Also if the table does not list a layer's parameters and there is no like.

    Example:
        >>> named = torch.nn.Linear(3, 2).state_dict()
        >>> from_state_dict(lf.dense(2), named)
        Params(weight=float32[3, 2], bias=float32[2])
    """
    check_argument("from_state_dict", "layer", Layer, layer, ("layer", "state_dict"))
    check_argument("from_state_dict", "key", Key, key)
    if not isinstance(state_dict, Mapping):
        mend = "; give its state_dict()" if hasattr(state_dict, "state_dict") else ""
        wanted = "state_dict to be tensors by name"
        raise core.unexpected("from_state_dict", wanted, f"{core.describe(state_dict)}{mend}")
    if like is None:
        like = _structure(layer, state_dict, layer)
    leaves = by_path(like)
    slots = _slots(layer, like)
    problems = differences(expected(slots, leaves), state_dict)
    if problems:
        raise LayerError(layer.name, f"expected tensors by torch's names; {'; '.join(problems)}")
    return fill(like, slots, state_dict.__getitem__, key)


def _slots(layer: Layer, params: Params) -> list[Slot]:
    return present(_walk(layer, params, "", ""), params)


def _walk(layer: Layer, params: Params, name: str, path: str) -> Iterator[Slot]:
    while (along := directed(layer)) is not None:  # its params are the layer's own
        layer = along
    made = composition_of(layer)
    row = BLOCKS.get(core.constructor_of(layer)) or KINDS.get(type(params))
    if row is not None:
        yield from (slot.below(name, path) for slot in row.slots(params))
    elif made is not None and (made.arrange != ENTRIES or type(params) is tuple):
        below = _paths_of_parts(made, params)
        for i, (entry, inside) in enumerate(zip(made.split_params(params), below, strict=True)):
            part = name if made.arrange.is_around else f"{name}{part_name(layer, i)}."
            yield from _walk(made.parts[i], entry, part, path + inside)
    elif isinstance(params, Tensor):
        yield Slot(name[:-1], (path[:-1],))
    else:
        yield from (Slot(name + p, (path + p,)) for p in tree.paths(params, states=True))


def _paths_of_parts(made: Composition, params: Params) -> list[str]:
    """Return what the paths of each part's tensors begin with in a composition's params."""
    paths = tree.paths(params, states=True)
    named = made.split_params(tree.unflatten(params, paths, states=True))
    return [_beginning(entry) for entry in named]


def _beginning(named: Params) -> str:
    """Return what the paths at the leaves of a tree begin with, before those within the tree."""
    within = tree.paths(named, states=True)
    if not within:
        return ""
    whole = str(tree.leaves(named, states=True)[0])  # texts are in the places of tensors
    return whole.removesuffix(within[0]) if within[0] else f"{whole}."


def _structure(layer: Layer, names: NamedTensors, whole: Layer) -> Params:
    """Make params of the right shapes, on `meta` where a tensor is to be filled in."""
    if (part := directed(layer)) is not None:
        return _structure(part, names, whole)
    made, row = composition_of(layer), _row(layer)
    if made is not None and row is None:
        parts = [
            # Of what is around a part, no other part has params.
            (part, names if made.arrange.is_around else _select_below(part_name(layer, i), names))
            for i, part in enumerate(layer.parts)
        ]
        return made.arrange.join(tuple(_structure(part, own, whole) for part, own in parts), None)
    if core.has_no_params(layer):
        return ()
    if row is None:
        problem = f"expected like, because the parameters of {layer.name} are not known"
        raise LayerError(whole.name, problem)
    given = {} if layer.spec is None else layer.spec.arguments
    options = {**given, **core.arguments_of(layer.init if made is None else made.init)}
    try:
        key = Key(torch.empty((), dtype=torch.int64, device="meta"))
        return layer.init(key, row.example(names, options))
    except LayerError as error:
        problem = f"cannot find the sizes of {layer.name} from {sorted(names)}: {error.problem}"
        raise LayerError(whole.name, problem) from error


def _row(layer: Layer) -> Naming | None:
    """Find the table's row: a block's, or that of the class `Params` beside the constructor."""
    if layer.spec is not None and layer.spec.of is inference:
        return _row(layer.spec["layer"])
    own = KINDS.get(getattr(core.file_of(layer), "Params", type(None)))
    return BLOCKS.get(core.constructor_of(layer), own)


def _select_below(name: str, names: NamedTensors) -> NamedTensors:
    prefix = f"{name}."
    return {n.removeprefix(prefix): t for n, t in names.items() if n.startswith(prefix)}


def to_numpy(arrays: Tree) -> Tree:
    """Convert all tensors of a tree to numpy arrays in new memory, including those in states.

    Raises:
        TypeError: for a dtype that numpy lacks, such as bfloat16.

    Example:
        >>> to_numpy((torch.ones(2), None))
        (array([1., 1.], dtype=float32), None)
    """
    return tree.map(_array, arrays, states=True)


def from_numpy(arrays: Tree) -> Tree:
    """Convert all numpy arrays of a tree to tensors in new memory, including those in states.

    Arrays have any strides, and float64 stays float64.

    Example:
        >>> from_numpy({"x": np.ones((2, 1)), "y": np.int64(3)})
        {'x': tensor([[1.],
                [1.]], dtype=torch.float64), 'y': tensor(3)}
    """
    return tree.map(lambda a: torch.from_numpy(np.array(a, order="C")), arrays, states=True)


def _array(tensor: Tensor) -> Tree:
    if tensor.dtype is torch.bfloat16:
        raise TypeError("to_numpy: numpy has no bfloat16; convert first, for example by t.float()")
    return np.array(tensor.detach().cpu().numpy(), order="C")
