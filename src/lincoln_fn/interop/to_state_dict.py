"""State dicts for torch: by the positions of parts, or by the names of a module's parts."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lincoln_fn.core import Layer, LayerError, Params
from lincoln_fn.interop.assembly import to_pretrained
from lincoln_fn.interop.state_dict import name_tensors
from lincoln_fn.interop.torch_nn import from_torch, is_pretrained


def to_state_dict(
    layer: Layer, params: Params, module: nn.Module | None = None
) -> dict[str, Tensor]:
    """Convert parameters to torch's names and layouts.

    Gradients mirror params, so they are converted in the same way; they contain the running
    statistics, unchanged. Keys have no name in torch and are left out.

    Args:
        module: the torch module that `from_torch` made the layer of, if its parts have names of
            their own, as in a ResNet. None names parts by position, as `torch.nn.Sequential` does.

    Returns:
        Copies of the tensors by name, in the order of torch's `state_dict`. The module's
        `load_state_dict` loads them; a module with other tensors is refused.

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
    return named if module is None else _renamed(layer, named, module)


def _renamed(layer: Layer, named: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Give tensors that are named by position the names of a module, in its order."""
    # Each tensor of a copy is filled with its number, which then shows where it went.
    marked = copy.deepcopy(module).double()
    names = list(marked.state_dict())
    with torch.no_grad():
        for i, tensor in enumerate(marked.state_dict().values()):
            tensor.fill_(i)
    placed = name_tensors(*from_torch(marked))
    ours = {names[int(t.flatten()[0])]: name for name, t in placed.items() if t.numel()}
    there = {*ours.values()}
    if there != named.keys():
        missing, unexpected = (
            ", ".join(sorted(each)[:3]) or "none"
            for each in (named.keys() - there, there - named.keys())
        )
        problem = (
            "expected the module that from_torch made the layer of, got one with other tensors"
            f"; missing there: {missing}; missing here: {unexpected}"
        )
        raise LayerError(layer.name, problem)
    return {name: named[ours[name]] for name in names if name in ours}
