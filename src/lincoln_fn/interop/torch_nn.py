"""Layers and parameters from torch.nn modules.

`LAYERS` says how a layer is made from a module's hyperparameters. The parameters are converted by
`state_dict.from_state_dict`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from torch import nn

from lincoln_fn.combine.frozen import FrozenParams, frozen
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Layer, Params
from lincoln_fn.errors.arguments import check_argument
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.kinds import wrong_kind
from lincoln_fn.interop.assembly import of_pretrained
from lincoln_fn.interop.composed import find_composed
from lincoln_fn.interop.hyperparameters import (
    Unsupported,
    attention,
    channel_norm,
    conv,
    conv_transpose,
    decoder,
    embedding,
    encoder,
    linear,
    pool,
    recurrent,
    softmax,
    upsample,
    with_bias,
)
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

# Any: torch declares few of its modules' attributes.
Maker: TypeAlias = Callable[[Any], Layer]


def _by(constructor: Callable[..., Layer], *attributes: str) -> Maker:
    """Call a constructor with a module's attributes of the same names."""
    return lambda module: constructor(**{name: getattr(module, name) for name in attributes})


def _each(
    theirs: str, make: Callable[[Callable[..., Layer]], Maker], mine: str
) -> dict[Any, Maker]:
    """Make three rows, for one to three spatial axes: {} is replaced by their number."""
    return {
        getattr(nn, theirs.format(n)): make(getattr(ours, mine.format(n)))
        for n in (1, 2, 3)
        if hasattr(nn, theirs.format(n))
    }


LAYERS: Final[dict[type[nn.Module], Maker]] = {
    nn.Linear: linear,
    nn.Bilinear: with_bias(ours.bilinear, "out_features"),
    nn.Embedding: embedding,
    nn.Identity: _by(ours.identity),
    nn.Flatten: _by(ours.flatten, "start_dim", "end_dim"),
    nn.Unflatten: _by(ours.unflatten, "dim", "unflattened_size"),
    nn.PixelShuffle: _by(ours.pixel_shuffle, "upscale_factor"),
    nn.PixelUnshuffle: _by(ours.pixel_unshuffle, "downscale_factor"),
    nn.Upsample: upsample,
    nn.UpsamplingNearest2d: upsample,
    nn.UpsamplingBilinear2d: upsample,
    nn.Softmax: softmax(ours.softmax),
    nn.LogSoftmax: softmax(ours.log_softmax),
    nn.Softmin: softmax(ours.softmin),
    nn.Softmax2d: lambda module: ours.softmax(-3),
    nn.ReLU: _by(ours.relu),
    nn.ReLU6: _by(ours.relu6),
    nn.LeakyReLU: _by(ours.leaky_relu, "negative_slope"),
    nn.PReLU: _by(ours.prelu, "num_parameters"),
    nn.RReLU: _by(ours.rrelu, "lower", "upper"),
    nn.ELU: _by(ours.elu, "alpha"),
    nn.CELU: _by(ours.celu, "alpha"),
    nn.SELU: _by(ours.selu),
    nn.GELU: _by(ours.gelu, "approximate"),
    nn.GLU: _by(ours.glu, "dim"),
    nn.SiLU: _by(ours.silu),
    nn.Mish: _by(ours.mish),
    nn.Sigmoid: _by(ours.sigmoid),
    nn.LogSigmoid: _by(ours.log_sigmoid),
    nn.Tanh: _by(ours.tanh),
    nn.Tanhshrink: _by(ours.tanhshrink),
    nn.Softplus: _by(ours.softplus, "beta", "threshold"),
    nn.Softsign: _by(ours.softsign),
    nn.Softshrink: _by(ours.softshrink, "lambd"),
    nn.Hardshrink: _by(ours.hardshrink, "lambd"),
    nn.Hardtanh: _by(ours.hardtanh, "min_val", "max_val"),
    nn.Hardsigmoid: _by(ours.hardsigmoid),
    nn.Hardswish: _by(ours.hardswish),
    nn.Threshold: _by(ours.threshold, "threshold", "value"),
    nn.Dropout: _by(ours.dropout, "p"),
    nn.AlphaDropout: _by(ours.alpha_dropout, "p"),
    nn.FeatureAlphaDropout: _by(ours.feature_alpha_dropout, "p"),
    nn.LayerNorm: with_bias(ours.layer_norm, "normalized_shape", "eps", "elementwise_affine"),
    nn.RMSNorm: _by(ours.rms_norm, "normalized_shape", "eps", "elementwise_affine"),
    nn.GroupNorm: with_bias(ours.group_norm, "num_groups", "eps", "affine"),
    nn.LocalResponseNorm: _by(ours.local_response_norm, "size", "alpha", "beta", "k"),
    nn.RNN: recurrent(ours.rnn, "nonlinearity"),
    nn.GRU: recurrent(ours.gru),
    nn.LSTM: recurrent(ours.lstm),
    nn.RNNCell: _by(ours.rnn_cell, "hidden_size", "bias", "nonlinearity"),
    nn.GRUCell: _by(ours.gru_cell, "hidden_size", "bias"),
    nn.LSTMCell: _by(ours.lstm_cell, "hidden_size", "bias"),
    nn.MultiheadAttention: attention,
    nn.TransformerEncoderLayer: encoder,
    nn.TransformerDecoderLayer: decoder,
    **_each("Conv{}d", conv, "conv{}d"),
    **_each("ConvTranspose{}d", conv_transpose, "conv_transpose{}d"),
    **{getattr(nn, f"BatchNorm{n}d"): channel_norm(ours.batch_norm, n) for n in (1, 2, 3)},
    **{getattr(nn, f"InstanceNorm{n}d"): channel_norm(ours.instance_norm, n) for n in (1, 2, 3)},
    **_each("Dropout{}d", lambda make: _by(make, "p"), "dropout{}d"),
    **_each("MaxPool{}d", pool, "max_pool{}d"),
    **_each("AvgPool{}d", pool, "avg_pool{}d"),
    **_each("LPPool{}d", pool, "lp_pool{}d"),
    **_each("AdaptiveAvgPool{}d", lambda make: _by(make, "output_size"), "adaptive_avg_pool{}d"),
    **_each("AdaptiveMaxPool{}d", pool, "adaptive_max_pool{}d"),
    **_each("FractionalMaxPool{}d", pool, "fractional_max_pool{}d"),
    **_each("ConstantPad{}d", lambda make: _by(make, "padding", "value"), "constant_pad{}d"),
    **{
        row: maker
        for kind in ("Zero", "Reflection", "Replication", "Circular")
        for row, maker in _each(
            f"{kind}Pad{{}}d", lambda make: _by(make, "padding"), f"{kind.lower()}_pad{{}}d"
        ).items()
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
