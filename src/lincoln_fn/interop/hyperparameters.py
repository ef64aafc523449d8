"""Conversion of hyperparameters of torch's modules, where it takes more than renaming."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch.nn.functional as F
from torch import nn

from lincoln_fn.combine.transformer import transformer_decoder_block, transformer_encoder_block
from lincoln_fn.core.layer import Layer
from lincoln_fn.layers.common.constructors import ours

# Any: torch declares few of its modules' attributes.
Module: TypeAlias = Any
Maker: TypeAlias = Callable[[Module], Layer]


class Unsupported(Exception):  # noqa: N818  # reported to the caller with the module's path
    """An option of a module that is not supported here."""


def refuse(module: Module, **allowed: object) -> None:
    """Check options that the counterpart does not have."""
    for name, only in allowed.items():
        value = getattr(module, name)
        if value != only:
            raise Unsupported(f"expected {name}={only}, got {value}")


def with_bias(constructor: Callable[..., Layer], *attributes: str) -> Maker:
    """Make a layer that has a bias where the module has one."""

    def make(module: Module) -> Layer:
        options = {name: getattr(module, name) for name in attributes}
        # Without a weight a norm has no bias either, and takes no such argument.
        affine = getattr(module, "affine", getattr(module, "elementwise_affine", True))
        return constructor(**options, bias=module.bias is not None or not affine)

    return make


def linear(module: Module) -> Layer:
    """Make a dense layer."""
    return ours.dense(module.out_features, bias=module.bias is not None)


def embedding(module: Module) -> Layer:
    """Make an embedding."""
    refuse(module, max_norm=None, scale_grad_by_freq=False, sparse=False)
    return ours.embedding(
        module.num_embeddings, module.embedding_dim, module.padding_idx, dtype=module.weight.dtype
    )


def softmax(constructor: Callable[..., Layer]) -> Maker:
    """Make a layer that needs an axis, which torch guesses if it is None."""

    def make(module: Module) -> Layer:
        if module.dim is None:
            raise Unsupported("expected dim=0 or another axis, got None")
        return constructor(module.dim)

    return make


def upsample(module: Module) -> Layer:
    """Make a layer that interpolates."""
    refuse(module, recompute_scale_factor=None)
    aligned = bool(module.align_corners)
    return ours.upsample(module.size, module.scale_factor, module.mode, aligned)


def channel_norm(constructor: Callable[..., Layer], spatial_axes: int) -> Maker:
    """Make a batch or an instance norm, which reads x by its number of axes, as torch's does."""

    def make(module: Module) -> Layer:
        tracks = module.track_running_stats
        if constructor is ours.instance_norm and module.momentum is None and tracks:
            # torch then keeps the initial statistics.
            problem = "expected a momentum, got momentum=None with track_running_stats=True"
            raise Unsupported(problem)
        return constructor(
            module.eps,
            module.momentum,
            module.affine,
            tracks,
            bias=module.bias is not None or not module.affine,
            spatial_axes=spatial_axes,
        )

    return make


def conv(constructor: Callable[..., Layer]) -> Maker:
    """Make a convolution."""

    def make(module: Module) -> Layer:
        return constructor(
            module.out_channels,
            _simplify(module.kernel_size),
            _simplify(module.stride),
            _simplify(module.padding),
            dilation=_simplify(module.dilation),
            groups=module.groups,
            bias=module.bias is not None,
            padding_mode=module.padding_mode,
        )

    return make


def conv_transpose(constructor: Callable[..., Layer]) -> Maker:
    """Make a transposed convolution."""

    def make(module: Module) -> Layer:
        return constructor(
            module.out_channels,
            _simplify(module.kernel_size),
            _simplify(module.stride),
            _simplify(module.padding),
            _simplify(module.output_padding),
            groups=module.groups,
            bias=module.bias is not None,
            dilation=_simplify(module.dilation),
        )

    return make


def pool(constructor: Callable[..., Layer]) -> Maker:
    """Make a pooling layer."""
    names = (
        "norm_type", "output_size", "output_ratio", "kernel_size", "stride", "padding", "dilation",
        "ceil_mode", "count_include_pad", "divisor_override", "return_indices",
    )  # fmt: skip

    def make(module: Module) -> Layer:
        if getattr(module, "_random_samples", None) is not None:
            raise Unsupported("expected samples that are drawn, got _random_samples")
        options = {
            name: _simplify(getattr(module, name)) for name in names if hasattr(module, name)
        }
        if options.get("stride", 0) == options.get("kernel_size"):
            del options["stride"]
        return constructor(**options)

    return make


def recurrent(constructor: Callable[..., Layer], *attributes: str) -> Maker:
    """Make a recurrent layer."""

    def make(module: Module) -> Layer:
        refuse(module, proj_size=0)
        if module.num_layers > 1:
            refuse(module, dropout=0.0)
        return constructor(
            module.hidden_size,
            num_layers=module.num_layers,
            bias=module.bias,
            bidirectional=module.bidirectional,
            batch_first=module.batch_first,
            **{name: getattr(module, name) for name in attributes},
        )

    return make


def attention(module: Module) -> Layer:
    """Make multi-head attention."""
    refuse(module, bias_k=None, bias_v=None, add_zero_attn=False)
    return ours.multi_head_attention(
        module.num_heads,
        dropout=module.dropout,
        bias=module.in_proj_bias is not None,
        batch_first=module.batch_first,
    )


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


def _simplify(sizes: Any) -> Any:  # Any: one number, several, or a word
    """Write equal numbers for all axes as one number."""
    if isinstance(sizes, tuple | list):
        return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)
    return sizes
