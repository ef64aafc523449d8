"""Convolutions: the kernels against the formulas written out, edge cases, errors."""

import itertools

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number
from torch.nn import functional as F

import lincoln_fn as lf
from lincoln_fn.layers import conv, conv_transpose
from lincoln_fn.layers.common import pad_axes

MODES = ("constant", "reflect", "replicate", "circular")


# The formulas written out


def correlation(x, weight, positions, stride, dilation, groups):
    """Compute sum_c,k W_o,c[k] x_c[s p + d k]; and how x is seen from each place k of the kernel.

    The views are of x's own memory, split by groups: (batch, groups, c, *positions).
    """
    x = x.unflatten(1, (groups, -1))
    weight = weight.unflatten(0, (groups, -1))
    y, views = 0, {}
    for k in itertools.product(*map(range, weight.shape[3:])):
        view = x
        for axis, place in enumerate(k):
            start = dilation[axis] * place
            stop = start + stride[axis] * (positions[axis] - 1) + 1
            seen = [slice(None)] * view.ndim
            seen[3 + axis] = slice(start, stop, stride[axis])
            view = view[tuple(seen)]
        views[k] = view
        y = y + torch.einsum("goc,bgc...->bgo...", weight[(..., *k)], view)
    return y.flatten(1, 2), views


SETTINGS = [
    ((5,), (3,), (2,), (1,), 1),
    ((7,), (3,), (2,), (2,), 2),
    ((5, 6), (2, 3), (1, 1), (1, 1), 1),
    ((7, 8), (3, 2), (2, 3), (1, 2), 2),
    ((5, 6), (5, 6), (1, 1), (1, 1), 4),
    ((3, 4, 6), (2, 1, 3), (1, 2, 2), (2, 1, 1), 2),
]


@pytest.mark.parametrize(("spatial", "kernel", "stride", "dilation", "groups"), SETTINGS)
def test_convolution_is_its_formula(spatial, kernel, stride, dilation, groups):
    x = normal(2, 4, *spatial).double()
    weight = normal(8, 4 // groups, *kernel, seed=1).double()
    params = conv.Params(weight, normal(8, seed=2).double())
    hyperparameters = {"stride": stride, "dilation": dilation, "groups": groups}
    y, cache = conv.forward(params, x, **hyperparameters)
    sums, _ = correlation(x, weight, y.shape[2:], stride, dilation, groups)
    assert same_number(y, sums + params.bias.view(-1, *[1] * len(kernel)))

    g = normal(*y.shape, seed=3).double()
    dx, dparams = conv.backward(params, cache, g)
    expected_dx, expected_dweight = torch.zeros_like(x), torch.zeros_like(weight)
    _, views = correlation(x, weight, y.shape[2:], stride, dilation, groups)
    _, dviews = correlation(expected_dx, weight, y.shape[2:], stride, dilation, groups)
    by_group = g.unflatten(1, (groups, -1))
    for k, view in views.items():
        w = weight.unflatten(0, (groups, -1))[(..., *k)]
        dviews[k] += torch.einsum("goc,bgo...->bgc...", w, by_group)
        dw = torch.einsum("bgop,bgcp->goc", by_group.flatten(3), view.flatten(3))
        expected_dweight[(..., *k)] = dw.flatten(0, 1)
    assert same_number((dx, dparams.weight), (expected_dx, expected_dweight))
    assert same_number(dparams.bias, g.sum([0, *range(2, g.ndim)]))


@pytest.mark.parametrize(("spatial", "kernel", "stride", "dilation", "groups"), SETTINGS)
def test_transposed_convolution_is_its_formula(spatial, kernel, stride, dilation, groups):
    x = normal(2, 4, *spatial).double()
    weight = normal(4, 8 // groups, *kernel, seed=1).double()
    params = conv_transpose.Params(weight, normal(8, seed=2).double())
    padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    y, cache = conv_transpose.forward(
        params, x, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    cut = [-q for q in reversed(padding) for _ in range(2)]
    whole = torch.zeros(
        2, 8, *(n + 2 * q for n, q in zip(y.shape[2:], padding, strict=True)), dtype=y.dtype
    )
    # The weight as the convolution from y's side sees it: o and c change places.
    _, views = correlation(whole, weight, spatial, stride, dilation, groups)
    for k, view in views.items():
        w = weight.unflatten(0, (groups, -1))[(..., *k)]
        view += torch.einsum("gco,bgc...->bgo...", w, x.unflatten(1, (groups, -1)))
    assert same_number(y, F.pad(whole, cut) + params.bias.view(-1, *[1] * len(kernel)))

    g = normal(*y.shape, seed=3).double()
    dx, dparams = conv_transpose.backward(params, cache, g)
    expected_dx, views = correlation(
        F.pad(g, [-c for c in cut]), weight, spatial, stride, dilation, groups
    )
    assert same_number(dx, expected_dx)
    for k, view in views.items():
        x_rows = x.unflatten(1, (groups, -1)).flatten(3)
        dw = torch.einsum("bgcp,bgop->gco", x_rows, view.flatten(3))
        assert same_number(dparams.weight[(..., *k)], dw.flatten(0, 1))
    assert same_number(dparams.bias, g.sum([0, *range(2, g.ndim)]))


def test_convolution_by_unfolding():
    x, layer = normal(2, 3, 6, 7).double(), lf.conv2d(4, (2, 3), 2, 1, dilation=2)
    params = layer.init(lf.Key(0), x)
    columns = F.unfold(x, (2, 3), dilation=2, padding=1, stride=2)
    y = params.weight.flatten(1) @ columns + params.bias[:, None]
    given = layer.forward(params, x)[0]
    assert same_number(given.flatten(2), y)


# Padding


def source(j, n, mode):
    """The element that place j of the padded axis copies."""
    if mode == "reflect":
        return -j if j < 0 else 2 * (n - 1) - j if j >= n else j
    return min(max(j, 0), n - 1) if mode == "replicate" else j % n


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("amounts", [((2, 3),), ((0, 1), (3, 0)), ((1, 2), (0, 0), (2, 1))])
def test_padding_copies_and_its_gradient_adds_back(mode, amounts):
    shape = (2, 3, *(4, 5, 6)[: len(amounts)])
    x = normal(*shape)
    y = pad_axes.pad(x, amounts, mode, 7.0)
    g = normal(*y.shape, seed=1)
    expected, expected_dx = x, g
    for axis, (before, after) in enumerate(amounts, 2):
        n = shape[axis]
        if mode == "constant":
            sides = [torch.full_like(expected.narrow(axis, 0, 1), 7.0)]
            expected = torch.cat([*sides * before, expected, *sides * after], axis)
            expected_dx = expected_dx.narrow(axis, before, n)
        else:
            copied = torch.tensor([source(j, n, mode) for j in range(-before, n + after)])
            expected = expected.index_select(axis, copied)
            zeros = torch.zeros_like(expected_dx.narrow(axis, 0, n))
            expected_dx = zeros.index_add(axis, copied, expected_dx)
    assert same_bits(y, expected)
    version = g._version
    assert same_number(pad_axes.fold(g, amounts, mode), expected_dx)
    assert g._version == version


def test_padding_can_take_away():
    x = normal(2, 3, 5)
    assert same_bits(pad_axes.pad(x, ((-1, 2),), "constant"), F.pad(x[..., 1:], [0, 2]))
    g = normal(2, 3, 6)
    assert same_number(pad_axes.fold(g, ((-1, 2),), "constant"), F.pad(g[..., :4], [1, 0]))


@pytest.mark.parametrize(("pair", "mode", "problem"), [
    ((3, 0), "reflect", "expected padding from 0 to 2 for reflect on an axis of 3, got"),
    ((0, 4), "circular", "expected padding from 0 to 3 for circular on an axis of 3, got"),
    ((-1, 0), "replicate", "expected padding from 0 to inf for replicate on an axis of 3, got"),
    ((-2, -2), "constant", "expected padding of at least -3 in all, got (-2, -2)"),
])  # fmt: skip
def test_padding_that_does_not_fit(pair, mode, problem):
    with pytest.raises(lf.LayerError) as error:
        pad_axes.check_amounts("layer", normal(1, 3), (pair,), mode)
    assert problem in str(error.value)


@pytest.mark.parametrize(("pair", "mode"), [
    ((2, 2), "reflect"), ((3, 3), "circular"), ((9, 0), "replicate"), ((-1, -2), "constant"),
])  # fmt: skip
def test_padding_that_just_fits(pair, mode):
    x = normal(2, 3)
    pad_axes.check_amounts("layer", x, (pair,), mode)
    assert pad_axes.pad(x, (pair,), mode).shape == (2, 3 + sum(pair))


def test_padding_an_empty_axis():
    with pytest.raises(lf.LayerError, match="from 0 to 0 for replicate on an axis of 0"):
        pad_axes.check_amounts("layer", torch.zeros(2, 0), ((1, 0),), "replicate")
