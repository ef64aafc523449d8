"""torch's names of a module's tensors, where its parts have other names than positions."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lincoln_fn.core.layer import Layer
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.interop.state_dict import to_state_dict
from lincoln_fn.interop.torch_nn import from_torch


def module_names(module: nn.Module) -> Mapping[str, str]:
    """Find the names in a module of the tensors that `to_state_dict` names by position.

    Args:
        module: one that `from_torch` converts.

    Returns:
        The module's name by ours: {"0.weight": "conv1.weight", ...}.

    Example:
        >>> module = torch.nn.Sequential()
        >>> module.add_module("first", torch.nn.Linear(2, 3))
        >>> module_names(module)
        {'0.weight': 'first.weight', '0.bias': 'first.bias'}
    """
    # Each tensor of a copy is filled with its number, which then shows where it went.
    marked = copy.deepcopy(module).double()
    tensors = marked.state_dict()
    with torch.no_grad():
        for i, tensor in enumerate(tensors.values()):
            tensor.fill_(i)
    names = list(tensors)
    placed = to_state_dict(*from_torch(marked))
    return {ours: names[int(t.flatten()[0])] for ours, t in placed.items() if t.numel()}


def rename(layer: Layer, named: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Give tensors the names of a module.

    Args:
        layer: for errors.
        named: tensors by position, as `to_state_dict` names them.
        module: the module.

    Returns:
        The tensors in the module's order.

    Raises:
        LayerError: if the module has other tensors.
    """
    names = module_names(module)
    if names.keys() != named.keys():
        missing, unexpected = (
            ", ".join(sorted(a - b)[:3]) or "none"
            for a, b in ((named.keys(), names.keys()), (names.keys(), named.keys()))
        )
        problem = (
            "expected the module that from_torch made the layer of, got one with other tensors"
        )
        raise LayerError(
            layer.name, f"{problem}; missing there: {missing}; missing here: {unexpected}"
        )
    tensors = {names[ours]: tensor for ours, tensor in named.items()}
    return {name: tensors[name] for name in module.state_dict() if name in tensors}
