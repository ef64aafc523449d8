"""Layers and parameters from torch.nn modules.

`LAYERS` says how a layer is made from a module's hyperparameters. The parameters are converted by
`state_dict.from_state_dict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from torch import nn

from lincoln_fn.combine import FrozenParams, frozen
from lincoln_fn.core import Key, Layer, LayerError, Params, check_argument, wrong_kind
from lincoln_fn.interop.assembly import of_pretrained
from lincoln_fn.interop.composed import find_composed
from lincoln_fn.interop.hyperparameters import Maker, Unsupported, decoder, encoder, same
from lincoln_fn.interop.module_checks import (
    check_instances,
    check_unchanged,
    check_untied,
    is_pretrained,
    next_step,
    where_of,
)
from lincoln_fn.interop.state_dict import from_state_dict
from lincoln_fn.layers.common.constructors import ours

# Modules whose names and attributes are those of ours, apart from underscores and case. {} is each
# number of spatial axes.
_SAME: Final = """
    Bilinear Embedding Identity Flatten Unflatten PixelShuffle PixelUnshuffle Upsample
    Softmax LogSoftmax Softmin ReLU ReLU6 LeakyReLU PReLU RReLU ELU CELU SELU GELU GLU SiLU Mish
    Sigmoid LogSigmoid Tanh Tanhshrink Softplus Softsign Softshrink Hardshrink Hardtanh Hardsigmoid
    Hardswish Threshold Dropout AlphaDropout FeatureAlphaDropout
    LayerNorm RMSNorm GroupNorm LocalResponseNorm RNN GRU LSTM RNNCell GRUCell LSTMCell
    Conv{}d ConvTranspose{}d Dropout{}d MaxPool{}d AvgPool{}d LPPool{}d AdaptiveAvgPool{}d
    AdaptiveMaxPool{}d FractionalMaxPool{}d
    ConstantPad{}d ZeroPad{}d ReflectionPad{}d ReplicationPad{}d CircularPad{}d
"""


def _same() -> Iterator[tuple[type[nn.Module], Maker]]:
    names = {name.replace("_", ""): getattr(ours, name) for name in dir(ours)}
    for form in _SAME.split():
        for theirs in dict.fromkeys(form.format(n) for n in (1, 2, 3)):
            if hasattr(nn, theirs):
                yield getattr(nn, theirs), same(names[theirs.lower()])


LAYERS: Final[dict[type[nn.Module], Maker]] = {
    **dict(_same()),
    nn.Linear: same(ours.dense),
    nn.UpsamplingNearest2d: same(ours.upsample),
    nn.UpsamplingBilinear2d: same(ours.upsample),
    nn.Softmax2d: lambda module: ours.softmax(-3),
    nn.MultiheadAttention: same(ours.multi_head_attention),
    nn.TransformerEncoderLayer: encoder,
    nn.TransformerDecoderLayer: decoder,
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
    `interop.transformers` lists the conversions. Instead of is_causal=True, give such a mask, or
    make the layer by `transformer_decoder` or a similar function from blocks with is_causal=True:
    its params are the same.

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
    if is_pretrained(module):
        check_instances(module)
        return _freeze(module, "from_torch", *of_pretrained(module, key))
    check_unchanged(module)
    for tensor in module.state_dict().values():
        key = key.near(tensor)
    made = _converted(module, "", key)
    check_untied(module)  # last: to untie a module that has no counterpart would be in vain
    return made


def _converted(module: nn.Module, path: str, key: Key) -> tuple[Layer, Params]:
    made, where = find_composed(module), where_of(path[:-1], module)
    if made is not None:
        parts = [
            _converted(child, f"{path}{name}.", key.fold_in(i))
            for i, (name, child) in enumerate(made.parts(module).items())
            if child is not None
        ]
        layer = made.compose(*(layer for layer, _ in parts))
        try:
            return layer, made.arrange(tuple(params for _, params in parts))
        except Unsupported as error:
            raise LayerError(where, f"{error}; {next_step(module)}") from error
    maker = LAYERS.get(type(module))
    if maker is None:
        raise LayerError(where, f"has no counterpart here; {next_step(module)}")
    try:
        layer = maker(module)
    except Unsupported as error:
        raise LayerError(where, f"{error}; {next_step(module)}") from error
    try:
        params = from_state_dict(layer, module.state_dict(), key=key)
    except LayerError as error:
        raise LayerError(where, f"{error.problem}; {next_step(module)}") from error
    return _freeze(module, where, layer, params)


def _freeze(module: nn.Module, where: str, layer: Layer, params: Params) -> tuple[Layer, Params]:
    """Freeze a layer whose module's parameters are frozen."""
    trained = {p.requires_grad for p in module.parameters()}
    if trained == {True, False}:
        raise LayerError(where, "expected all of its parameters or none to require a gradient")
    return (frozen(layer), FrozenParams(params)) if trained == {False} else (layer, params)
