"""Convolutions: padding, edge cases, how parameters begin, errors."""

import pytest
import torch
from helpers import normal, same_bits, same_number
from helpers.convolutions import MAKERS, axes_of, input_for
from helpers.refusals import refusals
from torch.nn import functional as F

import lincoln_fn as lf
from lincoln_fn.layers import pad

# Padding


def test_padding_can_take_away():
    x = normal(2, 3, 5)
    assert same_bits(pad.pad(x, ((-1, 2),), "constant"), F.pad(x[..., 1:], [0, 2]))
    g = normal(2, 3, 6)
    assert same_number(pad.fold(g, ((-1, 2),), "constant"), F.pad(g[..., :4], [1, 0]))


@pytest.mark.parametrize(("pair", "mode"), [
    ((2, 2), "reflect"), ((3, 3), "circular"), ((9, 0), "replicate"), ((-1, -2), "constant"),
])  # fmt: skip
def test_padding_that_just_fits(pair, mode):
    x = normal(2, 3)
    pad.check_amounts("layer", x, (pair,), mode)
    assert pad.pad(x, (pair,), mode).shape == (2, 3 + sum(pair))


# Parameters


@pytest.mark.parametrize("maker", MAKERS)
def test_initial_values_are_torch_s(maker):
    n, seen = axes_of(maker), []

    def draw(key, shape, fans, dtype):
        seen.append((fans, key))
        return torch.zeros(shape, dtype=dtype)

    spy = lf.initializers.Initializer("spy", draw)
    maker(6, 3, groups=2, weight_init=spy, bias_init=spy).init(lf.Key(0), input_for(maker))
    transposed = maker in MAKERS[3:]
    shape = (4, 3, *[3] * n) if transposed else (6, 2, *[3] * n)
    fans = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    assert [tuple(one) for one, _ in seen] == [fans, fans]
    assert seen[0][1].bits != seen[1][1].bits

    params = maker(6, 3, groups=2).init(lf.Key(0), input_for(maker, dtype=torch.float64))
    assert (params.weight.shape, params.bias.shape) == (shape, (6,))
    assert params.weight.dtype is params.bias.dtype is torch.float64
    bound = fans[0] ** -0.5
    assert 0.8 * bound < params.weight.abs().max() <= bound
    assert 0.4 * bound < params.bias.abs().max() <= bound
    assert maker(6, 3, bias=False).init(lf.Key(0), input_for(maker)).bias is None


# Errors


def wrong_input(layer, shape, *, like=(2, 4, 5, 7)):
    return layer.forward(layer.init(lf.Key(0), torch.zeros(like)), torch.zeros(shape))


test_what_cannot_be_is_refused = refusals("""
conv1d(4, 3, groups=3) -> ^conv1d: expected out_channels that groups=3 divides, got 4$
conv2d(4, 3, (1, 2), 'same') -> ^conv2d: expected stride 1 for padding='same', got (1, 2)$
conv_transpose2d(4, 3, 2, 0, (1, 2)) -> ^conv_transpose2d: expected output_padding below stride or
    dilation, got (1, 2)$
wrong_input(conv2d(6, 3), (2, 3, 5, 7)) -> ^conv2d: expected x of shape (4, h, w) or (batch, 4, h,
    w), got (2, 3, 5, 7)$
wrong_input(conv_transpose2d(6, 3, groups=2), (2, 8, 5, 7)) -> ^conv_transpose2d: expected x of
    shape (4, h, w) or (batch, 4, h, w), got (2, 8, 5, 7)$
wrong_input(conv2d(6, (3, 8)), (2, 4, 5, 7)) -> ^conv2d: expected at least one position for the
    kernel, got x of shape (2, 4, 5, 7) for a kernel of (3, 8)$
conv3d(6, 3).init(Key(0), torch.zeros(5, 7)) -> ^conv3d: expected x of shape (channels, d, h, w) or
    (batch, channels, d, h, w), got (5, 7)$
conv2d(6, 3, groups=3).init(Key(0), torch.zeros(2, 4, 5, 7)) -> ^conv2d: expected channels that
    groups=3 divides, got 4$
layers.conv.forward(layers.conv.Params(torch.zeros(6, 4), None), torch.zeros(2, 4)) -> ^conv:
    expected a weight with one to three spatial axes, got (6, 4)$
pad.check_amounts('layer', torch.zeros(1, 3), ((3, 0),), 'reflect') -> expected padding from 0 to 2
    for reflect on an axis of 3, got
pad.check_amounts('layer', torch.zeros(1, 3), ((0, 4),), 'circular') -> expected padding from 0 to 3
    for circular on an axis of 3, got
pad.check_amounts('layer', torch.zeros(1, 3), ((-1, 0),), 'replicate') -> expected padding from 0 to
    inf for replicate on an axis of 3, got
pad.check_amounts('layer', torch.zeros(1, 3), ((-2, -2),), 'constant') -> expected at most 3
    elements to remove, got (-2, -2)
""")
