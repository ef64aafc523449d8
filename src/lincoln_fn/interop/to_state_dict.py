"""State dicts for torch: by the positions of parts, or by the names of a module's parts."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lincoln_fn.core import Layer, LayerError, Params
from lincoln_fn.interop.assembly import to_pretrained
from lincoln_fn.interop.module_checks import is_pretrained
from lincoln_fn.interop.state_dict import name_tensors
from lincoln_fn.interop.torch_nn import from_torch


def to_state_dict(
    layer: Layer, params: Params, module: nn.Module | None = None
) -> dict[str, Tensor]:
    """Convert parameters to torch's names and layouts.

    Gradients mirror params, so they are converted in the same way; they contain the running
    statistics, unchanged. Keys have no name in torch and are left out.

    Args:
        params: the layer's, or their gradients.
        module: the torch module that `from_torch` made the layer of, if its parts have names of
            their own, as those of a ResNet or of a model of Hugging Face's library have. None names
            parts by their positions, as `torch.nn.Sequential` does.

    Returns:
        Copies of the tensors by name, in the order of torch's `state_dict`, which the module's
        `load_state_dict` loads.

    Raises:
        LayerError: if the module has other tensors.

    Example:
        >>> net = lf.serial(lf.dense(2), lf.batch_norm(affine=False), lf.dropout())
        >>> params = net.init(lf.Key(0), torch.zeros(1, 3))
        >>> {name: tuple(t.shape) for name, t in to_state_dict(net, params).items()}
        {'0.weight': (2, 3), '0.bias': (2,), '1.running_mean': (2,), '1.running_var': (2,), \
'1.num_batches_tracked': ()}
    """
    if module is not None and is_pretrained(module):
        return to_pretrained(module, params)
    named = name_tensors(layer, params)
    return named if module is None else rename(layer, named, module)


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
    placed = name_tensors(*from_torch(marked))
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
