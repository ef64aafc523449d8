"""Conversion of hyperparameters of torch's modules, where it takes more than renaming."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, Final, TypeAlias

import torch.nn.functional as F
from torch import nn

from lincoln_fn.combine import transformer_decoder_block, transformer_encoder_block
from lincoln_fn.core import Layer

# Any: torch declares few of its modules' attributes.
Module: TypeAlias = Any
Maker: TypeAlias = Callable[[Module], Layer]


class Unsupported(Exception):  # noqa: N818  # reported to the caller with the module's path
    """An option of a module that is not supported here."""


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
    """Read an option of a module, as its counterpart takes it."""
    if name == "dtype":
        return module.weight.dtype
    value = getattr(module, _NAMES.get(name, name), None)
    if name == "bias" and not isinstance(value, bool):
        # Without a weight a norm has no bias either, and takes no such argument.
        affine = getattr(module, "affine", getattr(module, "elementwise_affine", True))
        return getattr(module, "in_proj_bias", value) is not None or not affine
    if name == "dim" and value is None:  # torch guesses it
        raise Unsupported("expected dim=0 or another axis, got None")
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
            raise Unsupported(f"expected {name}={value}, got {getattr(module, name)}")
    keeps = isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.momentum is None
    if keeps and module.track_running_stats:  # torch then keeps the initial statistics
        raise Unsupported("expected a momentum, got momentum=None with track_running_stats=True")


def encoder(module: Module) -> Layer:
    """Make a transformer encoder's block."""
    return transformer_encoder_block(**_block(module))


def decoder(module: Module) -> Layer:
    """Make a transformer decoder's block, which, like torch's, is causal only by a mask."""
    return transformer_decoder_block(**_block(module), is_causal=False)


def _block(module: Module) -> dict[str, Any]:  # Any: hyperparameters of any kind
    _check_parts(module)
    return {
        "num_heads": module.self_attn.num_heads,
        "dim_feedforward": module.linear1.out_features,
        "dropout": module.dropout.p,
        "activation": _activation(module.activation),
        "layer_norm_eps": module.norm1.eps,
        "norm_first": module.norm_first,
        "bias": module.linear1.bias is not None,
        "batch_first": module.self_attn.batch_first,
    }


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
            raise Unsupported(f"expected {name} of {kind.__name__}, got {type(part).__name__}")
        if option:
            name, value = f"{name}.{option}", getattr(part, option)
            first, expected = shared.setdefault(kind is nn.LayerNorm, (name, value))
            if value != expected:
                raise Unsupported(f"expected {name}={expected}, as in {first}, got {value}")


def _activation(given: object) -> str:
    if given is F.relu or isinstance(given, nn.ReLU):
        return "relu"
    if given is F.gelu or (isinstance(given, nn.GELU) and given.approximate == "none"):
        return "gelu"
    raise Unsupported(f"expected activation relu or gelu, got {given}")
