"""`digits`: how many digits survive is what the formulas of rounding say."""

import math

import pytest
import torch
from helpers import normal

import lincoln_fn as lf
from lincoln_fn.testing import Digits, digits

ALL = Digits(24 * math.log10(2), 8 * math.log10(2))
X = normal(5, 3)


@pytest.mark.parametrize("lost", [2, 4, 6])
def test_a_subtraction_that_cancels_loses_as_many_digits_as_calculated(lost):
    """Of x + 10^n, rounded by an eps / 2 and changed by one eps, x has n digits fewer."""
    c, x = 10.0**lost, normal(1000).clamp(-1, 1)
    found = digits(lf.serial(lf.shift(c), lf.shift(-c)), ((), ()), x)
    of_one_and_a_half_eps = ALL.float32 - math.log10(3)
    assert found["y"].float32 == pytest.approx(of_one_and_a_half_eps - lost, abs=0.25)
    assert found["dx"].float32 > ALL.float32 - 1


def test_what_only_chooses_loses_none():
    layer = lf.serial(lf.flip(-1), lf.permute(1, 0, 2), lf.flatten())
    assert digits(layer, ((), (), ()), normal(2, 3, 8)) == {"y": ALL, "dx": ALL}


def test_each_leaf_has_its_digits():
    layer = lf.dense(4)
    found = digits(layer, layer.init(lf.Key(0), X), X)
    assert [*found] == ["y", "dparams.weight", "dparams.bias", "dx"]
    for of in found.values():
        assert ALL.float32 - 1.5 < of.float32 <= ALL.float32
        assert ALL.bfloat16 - 1.5 < of.bfloat16 <= ALL.bfloat16


def test_what_overflows_has_none():
    found = digits(lf.exp(), (), torch.tensor([1.0, 100.0]))
    assert found == {"y": Digits(0.0, 0.0), "dx": Digits(0.0, 0.0)}


def test_a_formula_that_cancels_has_fewer_digits_than_one_that_does_not():
    def variance(params, x):  # the mean of squares less the square of the mean
        return (x * x).mean(-1) - x.mean(-1) ** 2, x

    def backward(params, x, g):
        return g.unsqueeze(-1) * 2 * (x - x.mean(-1, keepdim=True)) / x.shape[-1], ()

    shifted = 100 + X
    plain = digits(lf.Layer("variance()", variance, backward), (), shifted)["y"].float32
    assert digits(lf.variance(-1, correction=0), (), shifted)["y"].float32 > plain + 2


def test_of_a_loss():
    target = torch.tensor([0, 2, 1, 0, 1])
    found = digits(lf.losses.softmax_cross_entropy(), X, target)
    assert [*found] == ["y", "dx"]
    assert found["y"].float32 > 6


def test_without_a_kernel_a_dtype_has_no_digits():
    def sorted_roots(params, x):
        return torch.linalg.cholesky(x @ x.mT + torch.eye(3, dtype=x.dtype)), x

    layer = lf.Layer("cholesky()", sorted_roots, lambda params, x, g: (g @ x, ()))
    found = digits(layer, (), normal(3, 3))
    assert math.isnan(found["y"].bfloat16)
    assert found["y"].float32 > 5


def test_a_derivative_along_a_direction_keeps_its_digits():
    net, x = lf.jvp(lf.serial(lf.dense(4), lf.tanh())), lf.keys.normal(lf.Key(0), (5, 3))
    left = lf.testing.digits(net, net.init(lf.Key(1), (x, x)), (x, x))
    assert all(6 < of.float32 < 7.3 and 1 < of.bfloat16 < 2.8 for of in left.values()), left
