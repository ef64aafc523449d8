"""Layers and parameters from torch.nn modules, and parameters as their state dicts.

`LAYERS` says how a layer is made from a module's hyperparameters. The parameters are converted by
`state_dict.from_state_dict`. A state dict names tensors by the positions of parts, or as a module.

Errors of the parts have no place, until `from_torch` adds the module's path.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from inspect import signature
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lincoln_fn import combine
from lincoln_fn.core import Key, Layer, LayerError, Params, check_argument, unexpected, wrong_kind
from lincoln_fn.interop.pretrained import of_pretrained, to_pretrained
from lincoln_fn.interop.state_dict import from_state_dict, name_tensors
from lincoln_fn.interop.transformers import transformer, transformer_decoder, transformer_encoder
from lincoln_fn.layers.common.constructors import ours
from lincoln_fn.walk.internal import Pair

# Any: torch declares few of its modules' attributes.
Module: TypeAlias = Any
Maker: TypeAlias = Callable[[Module], Layer]


# Options that no counterpart has, and their only value here.
_ONLY: Final[dict[type[nn.Module], dict[str, object]]] = {
    nn.Embedding: {"max_norm": None, "scale_grad_by_freq": False, "sparse": False},
    nn.Upsample: {"recompute_scale_factor": None},
    nn.MultiheadAttention: {"bias_k": None, "bias_v": None, "add_zero_attn": False},
    nn.RNNBase: {"proj_size": 0},
    nn.FractionalMaxPool2d: {"_random_samples": None},
    nn.FractionalMaxPool3d: {"_random_samples": None},
}
# Attributes of other names than our argument, and shapes, whose equal sizes stay several.
_ATTRIBUTES: Final = {"n_out": "out_features"}
_SHAPES: Final = ("normalized_shape", "unflattened_size")


def same(constructor: Callable[..., Layer], **options: Any) -> Maker:  # Any: of any kind
    """Make a layer by a constructor that has arguments of the names of a module's attributes."""
    arguments = signature(constructor).parameters.values()

    def make(module: Module) -> Layer:
        _refuse(module)
        found = {p.name: _option(module, p.name) for p in arguments if _has(module, p.name)}
        # A stride of None is the size of a window.
        if any(p.name == "stride" and p.default is None for p in arguments):
            found["stride"] = None if found["stride"] == found["kernel_size"] else found["stride"]
        return constructor(**found, **options)

    return make


def _has(module: Module, name: str) -> bool:
    return name in ("bias", "dtype") or hasattr(module, _ATTRIBUTES.get(name, name))


def _option(module: Module, name: str) -> Any:  # Any: of any kind
    if name == "dtype":
        return module.weight.dtype
    value = getattr(module, _ATTRIBUTES.get(name, name), None)
    if name == "bias" and not isinstance(value, bool):
        # Without a weight a norm has no bias either, and takes no such argument.
        affine = getattr(module, "affine", getattr(module, "elementwise_affine", True))
        return getattr(module, "in_proj_bias", value) is not None or not affine
    if name == "dim" and value is None:  # torch guesses it
        raise unexpected("", "dim=0 or another axis", "None")
    if name == "align_corners":
        return bool(value)
    if isinstance(value, tuple | list) and name not in _SHAPES:
        # Equal numbers for all axes are one number.
        return value[0] if len(set(value)) == 1 else tuple(value)
    if name == "normalized_shape":
        return value[0] if value and len(value) == 1 else value
    return value


def _refuse(module: Module) -> None:
    only = {n: v for kind, row in _ONLY.items() if isinstance(module, kind) for n, v in row.items()}
    if isinstance(module, nn.RNNBase) and module.num_layers > 1:
        only["dropout"] = 0.0
    for name, value in only.items():
        if getattr(module, name) != value:
            raise unexpected("", f"{name}={value}", getattr(module, name))
    keeps = isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.momentum is None
    if keeps and module.track_running_stats:  # torch then keeps the initial statistics
        raise unexpected("", "a momentum", "momentum=None with track_running_stats=True")


def block(constructor: Callable[..., Layer], **options: Any) -> Maker:  # Any: of any kind
    """Make a transformer block, whose hyperparameters are those of a module's parts."""

    def make(module: Module) -> Layer:
        _check_parts(module)
        return constructor(
            num_heads=module.self_attn.num_heads,
            dim_feedforward=module.linear1.out_features,
            dropout=module.dropout.p,
            activation=_activation(module.activation),
            layer_norm_eps=module.norm1.eps,
            norm_first=module.norm_first,
            bias=module.linear1.bias is not None,
            batch_first=module.self_attn.batch_first,
            **options,
        )

    return make


# A transformer block's parts, by name without a number, and the option that several share.
_PARTS: Final[dict[str, tuple[type[nn.Module], str]]] = {
    "self_attn": (nn.MultiheadAttention, "dropout"),
    "multihead_attn": (nn.MultiheadAttention, "dropout"),
    "linear": (nn.Linear, ""),
    "norm": (nn.LayerNorm, "eps"),
    "dropout": (nn.Dropout, "p"),
}


def _check_parts(module: Module) -> None:
    """Check that the parts are of torch's own kinds, norms with one eps, and dropout with one p."""
    shared: dict[bool, tuple[str, object]] = {}
    for name, part in module.named_children():
        kind, option = _PARTS.get(name.rstrip("123"), (type(part), ""))
        if type(part) is not kind:
            raise unexpected("", f"{name} of {kind.__name__}", type(part).__name__)
        if option:
            name, value = f"{name}.{option}", getattr(part, option)
            first, expected = shared.setdefault(kind is nn.LayerNorm, (name, value))
            if value != expected:
                raise unexpected("", f"{name}={expected}, as in {first}", value)


def _activation(given: object) -> str:
    if given is F.relu or isinstance(given, nn.ReLU):
        return "relu"
    if given is F.gelu or (isinstance(given, nn.GELU) and given.approximate == "none"):
        return "gelu"
    raise unexpected("", "activation relu or gelu", given)


class Container(NamedTuple):
    """A module made of modules."""

    parts: Callable[[Module], dict[str, nn.Module]]  # module -> its parts by their paths in it
    compose: Callable[..., Pair]  # the parts' layers and params -> those of the whole


def _by(combinator: Callable[..., Layer]) -> Callable[..., Pair]:
    """Compose layers by a combinator whose params are a tuple of those of its parts."""
    return lambda *pairs: (
        combinator(*(layer for layer, _ in pairs)), tuple(params for _, params in pairs)
    )  # fmt: skip


def _stacked(combinator: Callable[..., Layer]) -> Container:
    return Container(_list_stack, _by(lambda *layers: combinator(*layers[:-1], norm=layers[-1])))


def _list_stack(module: Module) -> dict[str, nn.Module]:
    blocks = {f"layers.{i}": block for i, block in enumerate(module.layers)}
    return {**blocks, "norm": nn.Identity() if module.norm is None else module.norm}


_COMPOSED: Final[dict[type[nn.Module], Container]] = {
    # Not named_children, which skips a module that occurs a second time.
    nn.Sequential: Container(lambda module: module._modules, _by(combine.serial)),
    nn.TransformerEncoder: _stacked(transformer_encoder),
    nn.TransformerDecoder: _stacked(transformer_decoder),
    nn.Transformer: Container(
        lambda module: {"encoder": module.encoder, "decoder": module.decoder}, _by(transformer)
    ),
}


def _block_of(convolutions: int) -> Container:
    """Describe a ResNet's block: y = f(norm(conv(... f(norm(conv(x))))) + downsample(x))."""
    names = [f"{kind}{i}" for i in range(1, convolutions + 1) for kind in ("conv", "bn")]

    def parts(module: Module) -> dict[str, nn.Module]:
        # Where there is none, the block adds x itself.
        way = module.downsample or nn.Identity()
        return {**{name: getattr(module, name) for name in (*names, "relu")}, "downsample": way}

    def compose(*pairs: Pair) -> Pair:
        *main, activation, way = pairs
        if activation[1] != ():
            raise LayerError("", "expected relu without parameters, for it is used several times")
        # After each convolution and its norm, except the last.
        for i in range(len(main) - 2, 0, -2):
            main.insert(i, activation)
        serial, residual = _by(combine.serial), _by(combine.residual)
        return serial(residual(serial(*main), way), activation)

    return Container(parts, compose)


def _resnet(module: Module) -> dict[str, nn.Module]:
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool")
    parts = {name: getattr(module, name) for name in names}
    return {**parts, "flatten": nn.Flatten(1), "fc": module.fc}


# By name, because torchvision may not be installed.
_BY_NAME: Final[dict[str, Container]] = {
    "torchvision.models.resnet.BasicBlock": _block_of(2),
    "torchvision.models.resnet.Bottleneck": _block_of(3),
    "torchvision.models.resnet.ResNet": Container(_resnet, _by(combine.serial)),
}


def find_composed(module: nn.Module) -> Container | None:
    """Find how a module is made of modules; None for a single module, or an unknown one."""
    kind = type(module)
    if getattr(kind, "forward", None) is nn.Sequential.forward:
        kind = nn.Sequential
    return _COMPOSED.get(kind) or _BY_NAME.get(f"{kind.__module__}.{kind.__qualname__}")


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
    kinds = type(module).__mro__
    return any(f"{k.__module__}.{k.__name__}" == _PRETRAINED for k in kinds)


def _next_step(module: nn.Module) -> str:
    is_part = type(module).__module__.startswith("transformers.") and not _is_pretrained(module)
    whole = "give the whole model, or " if is_part else ""
    return f"{whole}make one layer of it by from_module"


def _check_unchanged(module: nn.Module) -> None:
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
