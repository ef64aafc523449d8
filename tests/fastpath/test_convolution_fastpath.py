"""The faster convolutions: layout, kernels and what they compute."""

import pytest
import torch
from helpers import Operations, normal, same_bits, same_number
from helpers.cases import convolution
from helpers.convolutions import MAKERS, input_for, run

import lincoln_fn as lf
from lincoln_fn.core import file_of
from lincoln_fn.fastpath import convolution as twins
from lincoln_fn.fastpath import fast
from lincoln_fn.layers import conv

PLANES = [
    lf.conv2d(6, 3, 2, 1), lf.conv2d(4, 3, groups=4), lf.conv2d(6, (2, 3), padding="same"),
]  # fmt: skip


@pytest.mark.parametrize("layer", PLANES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_planes_are_in_channels_last_layout(layer, dtype, order):
    x = normal(2, 4, 5, 7).to(dtype)
    params = layer.init(lf.Key(0), x)
    given = run(fast(layer), params, x.contiguous(memory_format=order))
    assert same_number(given, run(layer, params, x))
    for name, tensor in zip(("y", "dx"), given, strict=False):
        assert tensor.is_contiguous(memory_format=torch.channels_last), name


def test_an_image_of_one_channel_is_not_copied():
    x = normal(2, 1, 5, 7)
    layer = fast(lf.conv2d(6, 3))
    y, cache = layer.forward(layer.init(lf.Key(0), x), x)
    assert cache.x.data_ptr() == x.data_ptr()
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_symmetric_zeros_are_left_to_the_kernel():
    x = normal(2, 4, 5, 7)
    for padding in (2, "same", "valid"):
        layer = fast(lf.conv2d(6, 3, padding=padding))
        _, cache = layer.forward(layer.init(lf.Key(0), x), x)
        assert same_bits(cache.x, x)
        assert cache.amounts == ()


@pytest.mark.parametrize("maker", MAKERS[:3])
@pytest.mark.parametrize("bias", [True, False])
def test_only_what_is_wanted_is_computed_and_by_one_kernel(maker, bias):
    layer, x = fast(maker(6, 3, bias=bias)), input_for(maker)
    params = layer.init(lf.Key(0), x)
    y, cache = layer.forward(params, x)
    with Operations() as operations:
        for function in (layer.grads, layer.backward, layer.input_grad):
            function(params, cache, torch.ones_like(y))
    kernel = torch.ops.aten.convolution_backward.default
    wanted = [tuple(given[-1]) for called, given, _ in operations.calls if called is kernel]
    assert wanted == [(False, True, bias), (True, True, bias), (True, False, False)]


@pytest.mark.parametrize("maker", MAKERS)
def test_the_formula_computes_each_half_once(maker):
    layer, x = maker(6, 3), input_for(maker)
    params = layer.init(lf.Key(0), x)
    y, cache = layer.forward(params, x)
    counts = []
    for function in (layer.input_grad, layer.grads, layer.backward):
        with Operations() as operations:
            function(params, cache, torch.ones_like(y))
        counts.append(operations.names.count("convolution"))
        assert not any("backward" in name for name in operations.names)
    assert counts == [1, 1, 2]


@pytest.mark.parametrize("layer", [
    lf.conv2d(6, 3, 2, 1, groups=2),
    lf.conv2d(6, 2, padding="same", padding_mode="reflect"),
    lf.conv2d(6, 3, padding=1, padding_mode="circular"),
], ids=str)  # fmt: skip
def test_vmap(layer):
    layer, x = fast(layer), normal(3, 2, 4, 5, 7)
    params = layer.init(lf.Key(0), x[0])
    y, cache = torch.func.vmap(lambda one: layer.forward(params, one))(x)
    g = normal(*y.shape, seed=1)
    given = torch.func.vmap(lambda c, g: layer.backward(params, c, g))(cache, g)
    for i in range(3):
        y_i, cache_i = layer.forward(params, x[i])
        expected = layer.backward(params, cache_i, g[i])
        assert same_number(y[i], y_i)
        for ours, theirs in zip(lf.tree.leaves(given), lf.tree.leaves(expected), strict=True):
            assert same_number(ours[i], theirs)


CONVOLUTIONS = [case for case in convolution.CASES if file_of(case.layer) is conv]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_the_shape_of_y_is_known_beforehand(case):
    params, layer = case.params(), fast(case.layer)
    y, cache = layer.forward(params, case.x)
    spatial = params.weight.ndim - 2
    assert twins.positions(cache.x, params.weight, cache.arguments) == y.shape[-spatial:]
