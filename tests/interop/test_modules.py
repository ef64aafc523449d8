"""Each torch.nn module that has a counterpart becomes a layer that computes the same."""

import copy
from collections import OrderedDict
from inspect import signature

import pytest
import torch
from helpers import CASES, assert_refused, assert_says, normal, same_bits, same_number
from torch import nn

import lincoln_fn as lf
from lincoln_fn.interop import from_torch, to_state_dict
from lincoln_fn.interop.torch_nn import LAYERS
from lincoln_fn.layers.fractional_max_pool import draw_samples

ROW, LINE, PLANE, SPACE = normal(5, 6), normal(2, 6, 7), normal(2, 6, 7, 9), normal(2, 6, 5, 4, 7)
BY_AXES = {1: LINE, 2: PLANE, 3: SPACE}
FRACTIONAL = (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
SEQUENCE, MEMORY = normal(2, 5, 6), normal(2, 4, 6, seed=1)
CROSS = SEQUENCE, MEMORY, MEMORY


def by_axes(name, *arguments, **options):
    """Make rows for one to three spatial axes."""
    kinds = {n: getattr(nn, f"{name}{n}d", None) for n in BY_AXES}
    return [(kind(*arguments, **options), BY_AXES[n]) for n, kind in kinds.items() if kind]


def without_bias(module):
    """Take a module's bias away; torch's constructors of norms take bias=False only of late."""
    module.register_parameter("bias", None)
    return module


# Modules of the table of layers, where x is what they take: one tensor, or as many as here.
INPUTS = {nn.Bilinear: 2, nn.MultiheadAttention: 3, nn.TransformerDecoderLayer: 2}
OF_CASES = [
    (module, case.x)
    for case in CASES
    if (module := getattr(case.torch, "module", None))
    and len(case.x if isinstance(case.x, tuple) else (case.x,)) == INPUTS.get(type(module), 1)
]
OTHERS = [
    (nn.ReLU(inplace=True), ROW),
    (nn.Softmax2d(), PLANE),
    (nn.UpsamplingNearest2d(scale_factor=2), PLANE),
    (nn.UpsamplingBilinear2d((9, 4)), PLANE),
    *by_axes("Conv", 6, 4, 3, 2, 1, dilation=2, groups=2, bias=False, padding_mode="circular"),
    *by_axes("BatchNorm", 6, eps=0.1, momentum=None, affine=False),
    *by_axes("BatchNorm", 6, momentum=0.3, track_running_stats=False),
    *by_axes("InstanceNorm", 6, 0.1, 0.3, affine=True, track_running_stats=True),
    (nn.InstanceNorm1d(6, affine=True, track_running_stats=True), LINE[0]),
    (nn.InstanceNorm2d(6, track_running_stats=True), PLANE[0]),
    (nn.InstanceNorm3d(6, affine=True), SPACE[0]),
    *by_axes("Dropout", 0.3),
    *by_axes("FractionalMaxPool", 2, 2),
    *by_axes("FractionalMaxPool", 2, output_ratio=0.5, return_indices=True),
    (nn.FractionalMaxPool2d((2, 3), output_ratio=(0.5, 0.7)), PLANE),
    *((kind(6, 3), x) for kind in (nn.RNN, nn.GRU, nn.LSTM) for x in (SEQUENCE, SEQUENCE[0])),
    (nn.MultiheadAttention(6, 3, 0.3, bias=False, batch_first=True), CROSS),
    (nn.MultiheadAttention(6, 2), tuple(t.transpose(0, 1) for t in CROSS)),
    *((nn.MultiheadAttention(6, 2, batch_first=batch_first),
        tuple(t[0] for t in CROSS)) for batch_first in (False, True)),
    *((kind(6, 2, 8, batch_first=True, norm_first=True, **options), x) for kind,
        x in ((nn.TransformerEncoderLayer, SEQUENCE), (nn.TransformerDecoderLayer,
        (SEQUENCE, MEMORY))) for options in ({"bias": False, "activation": nn.ReLU()},
        {"dropout": 0.0, "activation": nn.GELU()})),
    (nn.Sequential(), ROW),
    (nn.Sequential(nn.Linear(6, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 3)), nn.Softmax(1)), ROW),
]  # fmt: skip


def of_defaults(kind):
    """Make modules of a kind with torch's defaults, and with other numbers in their place."""
    arguments = signature(kind).parameters.values()
    numbers = {p.name: 0.3 * p.default + 0.05 for p in arguments if isinstance(p.default, float)}
    return [kind(), kind(**numbers)] if numbers else [kind()]


def has_defaults(kind):
    fixed = (p for p in signature(kind).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD)
    # torch guesses the axis of a softmax without one.
    return all(p.default is not p.empty for p in fixed) and getattr(kind(), "dim", 0) is not None


OF_SHAPES = [*OF_CASES, *OTHERS]
# An activation needs no row here: it is what takes any tensor, and has a default for each option.
OF_DEFAULTS = [
    module
    for kind in LAYERS
    if kind not in {nn.Flatten, nn.Upsample, *(type(module) for module, _ in OTHERS)}
    if has_defaults(kind)
    for module in of_defaults(kind)
]
ROWS = [*((module, ROW) for module in OF_DEFAULTS), *OF_SHAPES]


def drawn(module):
    """Give a module other numbers than its first ones, which hide what is forgotten."""
    module = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) / 2 + 0.1)
    return module


def is_random(module):
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    return isinstance(module, (nn.RReLU, *FRACTIONAL)) or (
        getattr(module, "inplace", None) is False and getattr(module, "p", 0) > 0
    )


def run(module, x):
    with torch.no_grad():
        y = module(*(t.clone() for t in x)) if isinstance(x, tuple) else module(x.clone())
    is_whole = isinstance(module, nn.LSTMCell) or getattr(module, "return_indices", False)
    return y[0] if isinstance(y, tuple) and not is_whole else y


def with_samples(module, params, x):
    """Give torch's fractional pooling the samples that our layer draws."""
    if not isinstance(module, FRACTIONAL):
        return module
    module = copy.deepcopy(module)
    module._random_samples = draw_samples(params.key, x, x.ndim - 2)
    return module


# torch warns that an even kernel with padding="same" makes it copy its input.
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    ("module", "x"), ROWS, ids=[f"{i}-{type(row[0]).__name__}" for i, row in enumerate(ROWS)]
)
def test_a_module_becomes_a_layer_that_computes_the_same(module, x):
    module = drawn(module)
    named = module.state_dict()
    layer, params = from_torch(module)
    assert same_number(layer.predict(params, x), run(with_samples(module.eval(), params, x), x))
    back = to_state_dict(layer, params)
    assert list(back) == list(named)
    for name, tensor in named.items():
        assert same_bits(back[name], tensor)
        assert back[name].data_ptr() != tensor.data_ptr()
        assert back[name].is_contiguous()
    module.load_state_dict(back, strict=True)
    assert not any(leaf.requires_grad for leaf in lf.tree.leaves(params))
    if not any(map(is_random, module.modules())):
        y, cache = layer.forward(params, x)
        assert same_number(y, run(module.train(), x))
        moved, theirs = to_state_dict(layer, layer.advance(params, cache)), module.state_dict()
        names = [name for name in named if "num_batches" not in name]  # instance norms count none
        assert same_number([moved[name] for name in names], [theirs[name] for name in names])


def test_the_rows_above_have_every_module_that_has_a_counterpart():
    assert {type(module) for module, _ in ROWS} == {*LAYERS, nn.Sequential}


def test_every_number_that_a_module_is_made_of_goes_to_the_layer():
    for kind in {type(module) for module in OF_DEFAULTS}:
        plain, *others = of_defaults(kind)
        for module in others:
            own = {n: value for n, value in vars(module).items() if type(value) is float}
            changed = [v for n, v in own.items() if v != getattr(plain, n)]
            shown = repr(from_torch(module)[0])
            assert all(repr(value) in shown for value in changed), (module, shown)


@pytest.mark.parametrize("part", [nn.Dropout(), nn.FractionalMaxPool2d(2, 3)])
def test_keys_come_from_the_key_and_differ(part):
    module = nn.Sequential(part, part)
    first, second = from_torch(module)[1]
    assert first.key.bits != second.key.bits
    assert same_bits(from_torch(module)[1][0].key.bits, first.key.bits)
    assert from_torch(module, key=lf.Key(1))[1][0].key.bits != first.key.bits


def test_a_layer_is_trained_apart_from_its_module():
    module = nn.Linear(3, 2)
    _, params = from_torch(module)
    with torch.no_grad():
        module.bias.fill_(7)
        module.weight.fill_(7)
    assert not (params.bias == 7).any()
    assert not (params.weight == 7).any()


def test_a_module_that_is_not_trained_is_frozen():
    module = nn.Sequential(nn.Linear(3, 4).requires_grad_(False), nn.Linear(4, 2))
    layer, params = from_torch(module)
    assert repr(layer) == "serial(frozen(dense(4)), dense(2))"
    assert lf.tree.paths(params) == ["1.weight", "1.bias"]
    assert list(to_state_dict(layer, params)) == list(module.state_dict())


def test_float64_and_bfloat16_are_kept():
    for dtype in (torch.float64, torch.bfloat16):
        _, params = from_torch(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(dtype))
        assert {leaf.dtype for leaf in lf.tree.leaves(params)} == {dtype}


class Block(nn.Sequential):
    """Computes what a Sequential does."""


# By module and x: the shapes that it takes.
NORMS_OF_A_RANK = [
    (nn.BatchNorm1d(6), PLANE, "(N, 6) or (N, 6, L1)"),
    (nn.BatchNorm2d(6), LINE, "(N, 6, L1, L2)"),
    (nn.BatchNorm2d(6), PLANE[0], "(N, 6, L1, L2)"),
    (nn.BatchNorm3d(6), PLANE, "(N, 6, L1, L2, L3)"),
    (nn.BatchNorm2d(6, affine=False, track_running_stats=False), LINE, "(N, C, L1, L2)"),
    (nn.InstanceNorm1d(6, affine=True), PLANE, "(N, 6, L1) or (6, L1)"),
    (nn.InstanceNorm2d(6), LINE[0], "(N, C, L1, L2) or (C, L1, L2)"),
    # torch reads the 2 as channels.
    (nn.InstanceNorm2d(6, affine=True), LINE, "(N, 6, L1, L2) or (6, L1, L2)"),
    (nn.InstanceNorm3d(6, track_running_stats=True), LINE, "(N, 6, L1, L2, L3) or (6, L1, L2, L3)"),
]


@pytest.mark.parametrize(("module", "x", "shapes"), NORMS_OF_A_RANK)
def test_norms_refuse_the_ranks_that_torchs_refuse(module, x, shapes):
    with pytest.raises((ValueError, RuntimeError)):
        module(x)
    layer, params = from_torch(module)
    for function in (layer.forward, layer.predict):
        kind = "batch_norm" if "Batch" in type(module).__name__ else "instance_norm"
        message = f"{kind}: expected x of shape {shapes}, got {tuple(x.shape)}"
        assert_refused(message, function, params, x)


TANH = nn.Tanh()


@pytest.mark.parametrize(("module", "shown"), [
    (nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.Dropout(0.2)),
        "serial(conv2d(8, 3, padding=1), max_pool2d(2), dropout(p=0.2))"),
    (nn.Sequential(TANH, nn.Identity(), TANH), "serial(tanh(), identity(), tanh())"),
    (nn.Sequential(OrderedDict(first=nn.Linear(3, 4), a=TANH)), "serial(dense(4), tanh())"),
    (Block(nn.ReLU()), "serial(relu())"),
    (nn.BatchNorm2d(6), "batch_norm(spatial_axes=2)"),
    (without_bias(nn.BatchNorm1d(6)), "batch_norm(bias=False, spatial_axes=1)"),
    (nn.BatchNorm1d(6, affine=False), "batch_norm(affine=False, spatial_axes=1)"),
    (nn.InstanceNorm3d(6), "instance_norm(spatial_axes=3)"),
    (without_bias(nn.GroupNorm(3, 6)), "group_norm(3, bias=False)"),
    (nn.GroupNorm(3, 6, affine=False), "group_norm(3, affine=False)"),
    (without_bias(nn.LayerNorm(6)), "layer_norm(6, bias=False)"),
    (nn.LSTM(3, 6, 2), "lstm(6, num_layers=2, batch_first=False)"),
    (nn.GRU(3, 6, batch_first=True), "gru(6)"),
    (nn.LSTMCell(3, 6, bias=False), "lstm_cell(6, bias=False)"),
    (nn.FractionalMaxPool2d(2, 3), "fractional_max_pool2d(2, output_size=3)"),
])  # fmt: skip
def test_layers_show_what_they_take_and_lack(module, shown):
    assert repr(from_torch(module)[0]) == shown


# What from_torch refuses, and how it says so.


BY_MODULE = "; make one layer of it by from_module"


class Own(nn.Linear):
    """What a subclass computes is not known."""

    def forward(self, x):
        return super().forward(x) * 2


class Doubled(nn.Sequential):
    """Computes something else."""

    def forward(self, x):
        return super().forward(x) * 2


class Stack(nn.TransformerEncoder):
    """What a subclass computes is not known, though it has torch's names."""


def changed(module, part, option, value):
    setattr(getattr(module, part), option, value)
    return module


def replaced(module, part, other):
    setattr(module, part, other)
    return module


NO_COUNTERPART = "has no counterpart here"
BLOCK, DECODER = nn.TransformerEncoderLayer, nn.TransformerDecoderLayer
# By module: its place in the error, and the problem.
REFUSED = [
    (nn.Fold(2, 2), "Fold", NO_COUNTERPART),
    (Doubled(nn.ReLU()), "Doubled", NO_COUNTERPART),
    (nn.Sequential(nn.ReLU(), nn.Sequential(Own(2, 3))), "1.0 Own", NO_COUNTERPART),
    (nn.Sequential(OrderedDict(head=nn.LSTM(3, 4, proj_size=2))),
     "head LSTM", "expected proj_size=0, got 2"),
    (nn.GRU(3, 4, 2, batch_first=True, dropout=0.5), "GRU", "expected dropout=0.0, got 0.5"),
    (nn.LSTM(3, 4, batch_first=True, proj_size=2), "LSTM", "expected proj_size=0, got 2"),
    (nn.MultiheadAttention(4, 2, add_zero_attn=True, batch_first=True),
     "MultiheadAttention", "expected add_zero_attn=False, got True"),
    (nn.TransformerDecoder(DECODER(4, 2, 3, activation=torch.tanh), 2),
     "layers.0 TransformerDecoderLayer", f"expected activation relu or gelu, got {torch.tanh}"),
    (nn.TransformerDecoder(DECODER(4, 2, 3), 2, Own(4, 4)), "norm Own", NO_COUNTERPART),
    (nn.Transformer(4, 2, custom_encoder=Own(4, 4), custom_decoder=nn.Linear(4, 4)),
     "encoder Own", NO_COUNTERPART),
    (Stack(BLOCK(4, 2, 3, batch_first=True), 2), "Stack", NO_COUNTERPART),
    (DECODER(4, 2, 3, activation=torch.tanh, batch_first=True),
     "TransformerDecoderLayer", f"expected activation relu or gelu, got {torch.tanh}"),
    (BLOCK(4, 2, 3, activation=nn.GELU("tanh"), batch_first=True),
     "TransformerEncoderLayer", "expected activation relu or gelu, got GELU(approximate='tanh')"),
    (changed(BLOCK(4, 2, 3), "norm2", "eps", 0.5),
     "TransformerEncoderLayer", "expected norm2.eps=1e-05, as in norm1.eps, got 0.5"),
    (changed(DECODER(4, 2, 3), "dropout3", "p", 0.5),
     "TransformerDecoderLayer", "expected dropout3.p=0.1, as in self_attn.dropout, got 0.5"),
    (replaced(BLOCK(4, 2, 3, bias=False), "norm1", nn.RMSNorm(4)),
     "TransformerEncoderLayer", "expected norm1 of LayerNorm, got RMSNorm"),
    (nn.Softmax(), "Softmax", "expected dim=0 or another axis, got None"),
    (nn.FractionalMaxPool2d(2, 3, _random_samples=torch.zeros(1, 1, 2)),
     "FractionalMaxPool2d", f"expected _random_samples=None, got {torch.zeros(1, 1, 2)}"),
    (nn.Embedding(3, 4, max_norm=1.0), "Embedding", "expected max_norm=None, got 1.0"),
    (nn.Upsample(scale_factor=2.0, recompute_scale_factor=True),
     "Upsample", "expected recompute_scale_factor=None, got True"),
    (nn.InstanceNorm1d(3, momentum=None, track_running_stats=True), "InstanceNorm1d",
     "expected a momentum, got momentum=None with track_running_stats=True"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "place", "problem"), REFUSED, ids=[type(row[0]).__name__ for row in REFUSED]
)
def test_what_has_no_counterpart_is_named_with_its_path(module, place, problem):
    assert_refused(f"from_torch: {place}: {problem}{BY_MODULE}", from_torch, module)


def test_a_module_that_is_half_frozen_is_refused():
    module = nn.Linear(3, 4)
    module.weight.requires_grad_(False)
    problem = "expected all of its parameters or none to require a gradient"
    assert_refused(f"from_torch: Linear: {problem}", from_torch, module)


def test_tied_parameters_are_refused():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    problem = "0.weight and 1.weight are one tensor, and would become two"
    mend = "in which it is one; or convert the parts one by one, and connect them by lf.tied"
    assert_refused(f"from_torch: {problem}{BY_MODULE}, {mend}", from_torch, module)
    norm = nn.BatchNorm1d(3, affine=False)
    assert_says("0.running_mean and 1.running_mean", from_torch, nn.Sequential(norm, norm))


def test_a_part_without_counterpart_is_named_before_tied_parameters():
    module = nn.Sequential(nn.Linear(3, 3), Own(3, 3))
    module[1].weight = module[0].weight
    assert_says("from_torch: 1 Own: has no counterpart here", from_torch, module)


def test_a_parameter_that_the_counterpart_has_not_is_refused():
    module = nn.Linear(2, 3)
    module.register_buffer("mask", torch.ones(3))
    problem = f"expected tensors by torch's names; mask: unexpected{BY_MODULE}"
    assert_refused(f"from_torch: Linear: {problem}", from_torch, module)
