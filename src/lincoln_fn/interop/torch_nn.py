"""Layers and parameters from torch.nn modules, and parameters as their state dicts.

`LAYERS` says how a layer is made from a module's hyperparameters. The parameters are converted by
`state_dict.from_state_dict`. A state dict names tensors by the positions of parts, or as a module.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain
from typing import Final

import torch
from torch import Tensor, nn

from lincoln_fn import combine
from lincoln_fn.core import Key, Layer, LayerError, Params, check_argument, unexpected, wrong_kind
from lincoln_fn.interop.assembly import of_pretrained, to_pretrained
from lincoln_fn.interop.conversions import Maker, block, find_composed, same
from lincoln_fn.interop.state_dict import from_state_dict, name_tensors
from lincoln_fn.layers.common.constructors import ours
from lincoln_fn.walk.internal import Pair

_PRETRAINED: Final = "transformers.modeling_utils.PreTrainedModel"
# Where torch keeps a module's hooks.
_HOOKS: Final = ("forward_pre_hooks", "forward_hooks", "backward_pre_hooks", "backward_hooks")
_NAMES: Final = {name.replace("_", ""): made for name, made in vars(ours).items()}
LAYERS: Final[dict[type[nn.Module], Maker]] = {
    # Their names and attributes are those of ours, apart from underscores and case.
    **{
        getattr(nn, theirs): same(_NAMES[theirs.lower()])
        for theirs in nn.modules.__all__
        if theirs.lower() in _NAMES
    },
    nn.Linear: same(ours.dense),
    nn.UpsamplingNearest2d: same(ours.upsample),
    nn.UpsamplingBilinear2d: same(ours.upsample),
    nn.Softmax2d: same(ours.softmax, dim=-3),
    nn.TransformerEncoderLayer: block(combine.transformer_encoder_block),
    # Like torch's, it is causal only by a mask.
    nn.TransformerDecoderLayer: block(combine.transformer_decoder_block, is_causal=False),
    # They read x by its number of axes.
    **{
        getattr(nn, f"{theirs}{n}d"): same(mine, spatial_axes=n)
        for theirs, mine in (("BatchNorm", ours.batch_norm), ("InstanceNorm", ours.instance_norm))
        for n in (1, 2, 3)
    },
}


def from_torch(
    module: nn.Module,
    *,
    key: Key = Key(0),
) -> tuple[Layer, Params]:
    """Make a layer from a torch.nn module, with its hyperparameters, parameters and statistics.

    A model of Hugging Face's library becomes what `from_pretrained` would make of its files.

    Whether the module is in training does not matter: `forward` trains and `predict` evaluates. A
    module none of whose parameters requires a gradient becomes `frozen`. A recurrent module's
    outputs are y for a sequence alone, and (outputs, last state) for (sequence, state). In place of
    a `PackedSequence` it takes a padded sequence and a mask.

    The arguments of torch's attention and transformers are entries of x: (query, key, value, mask),
    (source, target, source mask, target mask, memory mask), and so on, as each layer documents.
    Masks are True where attention is allowed, which is where torch's are False;
    `interop.transformers` lists the conversions, also of is_causal=True.

    Args:
        module: a module that has a counterpart here, or a `Sequential`, `TransformerEncoder`,
            `TransformerDecoder` or `Transformer` of such modules, nested or not; or a `ResNet` of
            torchvision, such as `torchvision.models.resnet18()`, whose last layer may be another;
            or a whole `PreTrainedModel` of a family in `interop.architectures`.
        key: the keys of dropout are made from it; torch has a global generator instead.

    Returns:
        The layer, and its parameters, copies of the module's. A `Sequential` becomes `serial`; its
        children keep their order, but not their names.

    Raises:
        LayerError: if a module has no counterpart, has hooks, a forward that is not its class's
            own, tied parameters or an unsupported option. The message has its path and class.

    Example:
        >>> from_torch(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(inplace=True)))
        (serial(dense(2), relu()), (Params(weight=float32[3, 2], bias=float32[2]), ()))
    """
    if not isinstance(module, nn.Module):
        raise wrong_kind("from_torch", "module", module, "torch.nn.Module")
    check_argument("from_torch", "key", Key, key)
    _check_unchanged(module)
    if _is_pretrained(module):
        return _freeze(module, "from_torch", *of_pretrained(module, key))
    for tensor in module.state_dict().values():
        key = key.near(tensor)
    made = _converted(module, "", key)
    _check_untied(module)  # last: to untie a module that has no counterpart would be in vain
    return made


def _converted(module: nn.Module, path: str, key: Key) -> Pair:
    made, where = find_composed(module), _where_of(path[:-1], module)
    if made is not None:
        parts = [
            _converted(child, f"{path}{name}.", key.fold_in(i))
            for i, (name, child) in enumerate(made.parts(module).items())
            if child is not None
        ]
    try:
        if made is not None:
            return made.compose(*parts)
        if type(module) not in LAYERS:
            raise LayerError("", "has no counterpart here")
        layer = LAYERS[type(module)](module)
        params = from_state_dict(layer, module.state_dict(), key=key)
    except LayerError as error:
        raise LayerError(where, f"{error.problem}; {_next_step(module)}") from error
    return _freeze(module, where, layer, params)


def _freeze(module: nn.Module, where: str, layer: Layer, params: Params) -> Pair:
    trained = {p.requires_grad for p in module.parameters()}
    if trained == {True, False}:
        raise LayerError(where, "expected all of its parameters or none to require a gradient")
    if trained == {False}:
        return combine.frozen(layer), combine.FrozenParams(params)
    return layer, params


def _is_pretrained(module: nn.Module) -> bool:
    """Return whether a module is a model of Hugging Face's library."""
    kinds = type(module).__mro__
    return any(f"{k.__module__}.{k.__name__}" == _PRETRAINED for k in kinds)


def _next_step(module: nn.Module) -> str:
    """Say how a layer is made of a module that cannot be converted."""
    is_part = type(module).__module__.startswith("transformers.") and not _is_pretrained(module)
    whole = "give the whole model, or " if is_part else ""
    return f"{whole}make one layer of it by from_module"


def _check_unchanged(module: nn.Module) -> None:
    """Check that a module and its submodules run only the code of their classes."""
    for path, part in module.named_modules(remove_duplicate=False):
        hooks = [name for name in _HOOKS if getattr(part, f"_{name}")]
        problem = ""
        if hooks:
            problem = f"expected no hooks, got {', '.join(hooks)}; remove them, or"
        elif "forward" in vars(part):
            problem = "expected its class's own forward, got another;"
        elif type(part).__call__ is not nn.Module.__call__ and not _is_pretrained(module):
            problem = "expected its class's own __call__, got another;"
        if problem:
            raise LayerError(_where_of(path, part), f"{problem} {_next_step(module)}")


def _where_of(path: str, module: nn.Module) -> str:
    return f"from_torch: {path} {type(module).__name__}".replace("  ", " ")


def _check_untied(module: nn.Module) -> None:
    first: dict[int, str] = {}
    named = module.named_parameters, module.named_buffers
    for name, tensor in chain.from_iterable(each(remove_duplicate=False) for each in named):
        other = first.setdefault(id(tensor), name)
        if other != name:
            problem = f"{other} and {name} are one tensor, and would become two"
            mend = f"{_next_step(module)}, in which it is one; or convert the parts one by one,"
            raise LayerError("from_torch", f"{problem}; {mend} and connect them by lf.tied")


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
    if module is not None and _is_pretrained(module):
        return to_pretrained(module, params)
    named = name_tensors(layer, params)
    return named if module is None else _renamed(layer, named, module)


def _renamed(layer: Layer, named: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    # Each tensor of a copy is filled with its number, which then shows where it went.
    marked = copy.deepcopy(module).double()
    names = list(marked.state_dict())
    with torch.no_grad():
        for i, tensor in enumerate(marked.state_dict().values()):
            tensor.fill_(i)
    placed = name_tensors(*from_torch(marked))
    by_position = {names[int(t.flatten()[0])]: name for name, t in placed.items() if t.numel()}
    there = {*by_position.values()}
    if there != named.keys():
        missing, extra = (
            ", ".join(sorted(each)[:3]) or "none"
            for each in (named.keys() - there, there - named.keys())
        )
        expected = "the module that from_torch made the layer of"
        mend = f"missing there: {missing}; missing here: {extra}"
        raise unexpected(layer.name, expected, "one with other tensors", mend)
    return {name: named[by_position[name]] for name in names if name in by_position}
