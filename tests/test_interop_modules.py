"""Each torch.nn module that has a counterpart becomes a layer that computes the same."""

import copy
from collections import OrderedDict

import pytest
import torch
from cases.case import normal
from torch import nn

import lincoln_fn as lf
from lincoln_fn.interop import from_torch, to_state_dict
from lincoln_fn.interop.torch_nn import LAYERS

ROW, LINE, PLANE, SPACE = normal(5, 6), normal(2, 6, 7), normal(2, 6, 7, 9), normal(2, 6, 5, 4, 7)
BY_AXES = {1: LINE, 2: PLANE, 3: SPACE}
SEQUENCE, MEMORY = normal(2, 5, 6), normal(2, 4, 6, seed=1)


def by_axes(name, *arguments, **options):
    """Make rows for one to three spatial axes."""
    kinds = {n: getattr(nn, f"{name}{n}d", None) for n in BY_AXES}
    return [(kind(*arguments, **options), BY_AXES[n]) for n, kind in kinds.items() if kind]


ACTIVATIONS = [
    nn.Identity(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.2), nn.PReLU(), nn.PReLU(6),
    nn.ELU(0.3), nn.CELU(0.3), nn.SELU(), nn.GELU(), nn.GELU("tanh"), nn.GLU(), nn.GLU(1),
    nn.SiLU(), nn.Mish(), nn.Sigmoid(), nn.LogSigmoid(), nn.Tanh(), nn.Tanhshrink(),
    nn.Softplus(0.5, 1.0), nn.Softsign(), nn.Softshrink(0.2), nn.Hardshrink(0.2),
    nn.Hardtanh(-0.5, 0.3), nn.Hardsigmoid(), nn.Hardswish(), nn.Threshold(0.1, 2.0),
    nn.Softmax(1), nn.LogSoftmax(0), nn.Softmin(1), nn.RReLU(0.1, 0.4),
    nn.Dropout(0.3), nn.AlphaDropout(0.3), nn.FeatureAlphaDropout(0.3),
]  # fmt: skip

ROWS = [
    *((module, ROW) for module in ACTIVATIONS),
    (nn.Linear(6, 4), ROW),
    (nn.Linear(6, 4, bias=False), ROW),
    (nn.Bilinear(6, 3, 4), (ROW, normal(5, 3))),
    (nn.Bilinear(6, 3, 4, bias=False), (ROW, normal(5, 3))),
    (nn.Embedding(7, 3), torch.tensor([[1, 2, 6], [0, 1, 0]])),
    (nn.Embedding(7, 3, padding_idx=1), torch.tensor([[1, 2, 6], [0, 1, 0]])),
    (nn.Flatten(), PLANE),
    (nn.Flatten(2, 3), PLANE),
    (nn.Unflatten(1, (2, 3)), PLANE),
    (nn.PixelShuffle(2), normal(2, 4, 3, 5)),
    (nn.PixelUnshuffle(3), normal(2, 4, 6, 9)),
    (nn.Softmax2d(), PLANE),
    (nn.Upsample(scale_factor=2), LINE),
    (nn.Upsample(size=(8, 5), mode="bilinear", align_corners=True), PLANE),
    (nn.UpsamplingNearest2d(scale_factor=2), PLANE),
    (nn.UpsamplingBilinear2d((9, 4)), PLANE),
    (nn.LayerNorm(6, eps=0.1), ROW),
    (nn.LayerNorm((7, 9), bias=False), PLANE),
    (nn.LayerNorm((7, 9), elementwise_affine=False), PLANE),
    (nn.RMSNorm(6), ROW),
    (nn.RMSNorm((7, 9), eps=0.1, elementwise_affine=False), PLANE),
    (nn.GroupNorm(3, 6, eps=0.1), PLANE),
    (nn.GroupNorm(3, 6, affine=False), PLANE),
    (nn.LocalResponseNorm(3, 0.7, 0.6, 1.5), PLANE),
    *by_axes("Conv", 6, 4, 3),
    *by_axes("Conv", 6, 4, 3, 2, 1, dilation=2, groups=2, bias=False, padding_mode="circular"),
    (nn.Conv2d(6, 4, (3, 2), (1, 2), padding=(2, 0)), PLANE),
    (nn.Conv2d(6, 4, (3, 5), padding="same"), PLANE),
    *by_axes("ConvTranspose", 6, 4, 3),
    *by_axes("ConvTranspose", 6, 4, 3, 2, 1, output_padding=1, groups=2, bias=False, dilation=2),
    *by_axes("BatchNorm", 6),
    *by_axes("BatchNorm", 6, eps=0.1, momentum=None, affine=False),
    *by_axes("BatchNorm", 6, momentum=0.3, track_running_stats=False),
    *by_axes("InstanceNorm", 6),
    *by_axes("InstanceNorm", 6, 0.1, 0.3, affine=True, track_running_stats=True),
    *by_axes("Dropout", 0.3),
    *by_axes("MaxPool", 3),
    *by_axes("MaxPool", 2, 3, 1, 2, ceil_mode=True),
    *by_axes("AvgPool", 2),
    *by_axes("AvgPool", 3, 2, 1, ceil_mode=True, count_include_pad=False),
    (nn.AvgPool2d((2, 3), divisor_override=5), PLANE),
    *((module, x.abs()) for module, x in by_axes("LPPool", 3, 2, ceil_mode=True)),
    *by_axes("AdaptiveAvgPool", 3),
    (nn.AdaptiveAvgPool2d((None, 4)), PLANE),
    *by_axes("AdaptiveMaxPool", 3),
    *by_axes("ConstantPad", 2, 0.5),
    *by_axes("ZeroPad", 2),
    (nn.ReflectionPad2d((1, 2, 3, 0)), PLANE),
    *by_axes("ReflectionPad", 2),
    *by_axes("ReplicationPad", 2),
    *by_axes("CircularPad", 2),
    *((kind(6, 3, batch_first=True), SEQUENCE) for kind in (nn.RNN, nn.GRU, nn.LSTM)),
    *(
        (kind(6, 3, 2, batch_first=True, bias=False, bidirectional=True), SEQUENCE)
        for kind in (nn.RNN, nn.GRU, nn.LSTM)
    ),
    (nn.RNN(6, 3, nonlinearity="relu", dropout=0.0, batch_first=True), SEQUENCE),
    (nn.MultiheadAttention(6, 2, batch_first=True), (SEQUENCE, MEMORY, MEMORY)),
    (nn.MultiheadAttention(6, 3, 0.3, bias=False, batch_first=True), (SEQUENCE, MEMORY, MEMORY)),
    (
        nn.MultiheadAttention(6, 2, kdim=4, vdim=3, batch_first=True),
        (SEQUENCE, normal(2, 4, 4), normal(2, 4, 3)),
    ),
    *(
        (kind(6, 2, 8, batch_first=True, **options), x)
        for kind, x in (
            (nn.TransformerEncoderLayer, SEQUENCE),
            (nn.TransformerDecoderLayer, (SEQUENCE, MEMORY)),
        )
        for options in (
            {},
            {"dropout": 0.0, "activation": "gelu", "layer_norm_eps": 0.1},
            {"norm_first": True, "bias": False, "activation": nn.ReLU()},
            {"norm_first": True, "dropout": 0.0, "activation": nn.GELU()},
        )
    ),
    (nn.Sequential(), ROW),
    (
        nn.Sequential(nn.Linear(6, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 3)), nn.Softmax(1)),
        ROW,
    ),
]


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
    return isinstance(module, nn.RReLU) or (
        getattr(module, "inplace", None) is False and getattr(module, "p", 0) > 0
    )


def run(module, x):
    with torch.no_grad():
        y = module(*(t.clone() for t in x)) if isinstance(x, tuple) else module(x.clone())
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize(
    ("module", "x"), ROWS, ids=[f"{i}-{type(row[0]).__name__}" for i, row in enumerate(ROWS)]
)
def test_a_module_becomes_a_layer_that_computes_the_same(module, x):
    module = drawn(module)
    named = module.state_dict()
    layer, params = from_torch(module)
    torch.testing.assert_close(
        layer.predict(params, x), run(module.eval(), x), rtol=1e-5, atol=1e-5
    )
    back = to_state_dict(layer, params)
    assert list(back) == list(named)
    for name, tensor in named.items():
        assert torch.equal(back[name], tensor)
        assert back[name].data_ptr() != tensor.data_ptr()
        assert back[name].is_contiguous()
    module.load_state_dict(back, strict=True)
    assert not any(leaf.requires_grad for leaf in lf.tree.leaves(params))
    if not any(map(is_random, module.modules())):
        y, _ = layer.forward(params, x)
        torch.testing.assert_close(y, run(module.train(), x), rtol=1e-5, atol=1e-5)


def test_the_rows_above_have_every_module_that_has_a_counterpart():
    assert {type(module) for module, _ in ROWS} == {*LAYERS, nn.Sequential}


def test_the_layer_shows_the_modules_hyperparameters():
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.Dropout(0.2))
    shown = "serial(conv2d(8, 3, padding=1), max_pool2d(2), dropout(p=0.2))"
    assert repr(from_torch(module)[0]) == shown


def test_the_keys_of_dropout_come_from_the_key_and_differ():
    module = nn.Sequential(nn.Dropout(), nn.Dropout())
    first, second = from_torch(module)[1]
    assert first.key.bits != second.key.bits
    assert torch.equal(from_torch(module)[1][0].key.bits, first.key.bits)
    assert from_torch(module, key=lf.Key(1))[1][0].key.bits != first.key.bits


def test_a_layer_is_trained_apart_from_its_module():
    module = nn.Linear(3, 2)
    _, params = from_torch(module)
    with torch.no_grad():
        module.bias.fill_(7)
        module.weight.fill_(7)
    assert not (params.bias == 7).any()
    assert not (params.weight == 7).any()


def test_a_module_that_stands_twice_is_two_parts():
    act = nn.Tanh()
    layer, _ = from_torch(nn.Sequential(act, nn.Identity(), act))
    assert repr(layer) == "serial(tanh(), identity(), tanh())"


def test_children_with_names_keep_their_order():
    module = nn.Sequential(
        OrderedDict(first=nn.Linear(3, 4), second=nn.ReLU(), third=nn.Linear(4, 2))
    )
    layer, params = from_torch(module)
    x = normal(5, 3)
    torch.testing.assert_close(layer.predict(params, x), run(module, x))
    back = to_state_dict(layer, params)
    module.load_state_dict(dict(zip(module.state_dict(), back.values(), strict=True)), strict=True)


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


def test_a_subclass_of_sequential_that_only_has_another_name():
    assert repr(from_torch(Block(nn.ReLU()))[0]) == "serial(relu())"
