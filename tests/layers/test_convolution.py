"""Convolutions: the kernels against the formulas written out, edge cases, errors."""

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number
from torch.nn import functional as F

import lincoln_fn as lf
from lincoln_fn.layers.common import pad_axes

# The formulas written out


# Padding


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
