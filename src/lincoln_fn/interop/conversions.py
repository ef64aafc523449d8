"""How modules of torch become layers: by their hyperparameters, or part by part.

An error is one without a place, to which `from_torch` adds the module's path.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, Final, NamedTuple, TypeAlias

import torch.nn.functional as F
from torch import nn

from lincoln_fn import combine
from lincoln_fn.core import Layer, LayerError, unexpected
from lincoln_fn.interop.transformers import transformer, transformer_decoder, transformer_encoder
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
_NAMES: Final = {"n_out": "out_features"}
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
    return name in ("bias", "dtype") or hasattr(module, _NAMES.get(name, name))


def _option(module: Module, name: str) -> Any:  # Any: of any kind
    if name == "dtype":
        return module.weight.dtype
    value = getattr(module, _NAMES.get(name, name), None)
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
    """Check options that the counterpart does not have."""
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
