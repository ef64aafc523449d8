"""Activations: element by element, and along an axis."""

import torch
from torch import nn

import lincoln_fn as lf
from helpers.cases.case import Case, by_module, normal, uniform

# Both sides of every kink of every configuration below are among these numbers.
WIDE = 4 * normal(5, 3)
SLOPES = {"weight": lambda p: p.weight}
# Inside the domains of logarithms and roots.
POSITIVE = uniform(5, 3, low=0.5, high=3.0)


def by(function):
    """Run a function of torch that has no parameters."""
    return lambda params, x: function(x)


CASES = [
    Case(lf.sigmoid(), normal(5, 3), by_module(nn.Sigmoid())),
    Case(lf.tanh(), normal(5, 3), by_module(nn.Tanh())),
    Case(lf.relu(), normal(5, 3), by_module(nn.ReLU())),
    Case(lf.log_sigmoid(), normal(5, 3), by_module(nn.LogSigmoid())),
    Case(lf.softmax(), normal(5, 3), by_module(nn.Softmax(-1))),
    Case(lf.softmax(dim=1), normal(5, 3, 2), by_module(nn.Softmax(1))),
    Case(lf.log_softmax(), normal(5, 3), by_module(nn.LogSoftmax(-1))),
    Case(lf.log_softmax(dim=1), normal(5, 3, 2), by_module(nn.LogSoftmax(1))),
    Case(lf.softmin(), normal(5, 3), by_module(nn.Softmin(-1))),
    Case(lf.softmin(dim=1), normal(5, 3, 2), by_module(nn.Softmin(1))),
    Case(lf.log_softmax(dim=0), normal(), by_module(nn.LogSoftmax(0)), note="a number"),
    Case(lf.leaky_relu(), normal(5, 3), by_module(nn.LeakyReLU())),
    Case(lf.leaky_relu(-0.5), normal(5, 3), by_module(nn.LeakyReLU(-0.5))),
    Case(lf.prelu(), normal(5, 3), by_module(nn.PReLU(), SLOPES)),
    Case(lf.prelu(init=-0.5), normal(5), by_module(nn.PReLU(), SLOPES)),
    Case(lf.prelu(3), normal(5, 3), by_module(nn.PReLU(3), SLOPES)),
    Case(lf.prelu(3), normal(5, 3, 2, 4), by_module(nn.PReLU(3), SLOPES)),
    Case(lf.relu6(), WIDE, by_module(nn.ReLU6())),
    Case(lf.elu(), normal(5, 3), by_module(nn.ELU())),
    Case(lf.elu(0.3), normal(5, 3), by_module(nn.ELU(0.3))),
    Case(lf.selu(), normal(5, 3), by_module(nn.SELU())),
    Case(lf.celu(), normal(5, 3), by_module(nn.CELU())),
    Case(lf.celu(0.3), normal(5, 3), by_module(nn.CELU(0.3))),
    Case(lf.gelu(), WIDE, by_module(nn.GELU())),
    Case(lf.gelu("tanh"), WIDE, by_module(nn.GELU("tanh"))),
    Case(lf.silu(), WIDE, by_module(nn.SiLU())),
    Case(lf.quick_gelu(), WIDE, lambda params, x: x * (1.702 * x).sigmoid()),
    Case(lf.mish(), WIDE, by_module(nn.Mish())),
    Case(lf.softplus(), WIDE, by_module(nn.Softplus())),
    Case(lf.softplus(0.5, 1.0), WIDE, by_module(nn.Softplus(0.5, 1.0))),
    Case(lf.softcap(2.0), WIDE, lambda params, x: 2 * (x / 2).tanh()),
    Case(lf.scale(-0.3), normal(5, 3), lambda params, x: -0.3 * x),
    Case(lf.exp(), normal(5, 3), by(torch.exp)),
    Case(lf.log(), POSITIVE, by(torch.log)),
    Case(lf.sqrt(), POSITIVE, by(torch.sqrt)),
    Case(lf.power(3), normal(5, 3), by(lambda x: x**3)),
    Case(lf.power(-1.5), POSITIVE, by(lambda x: x**-1.5)),
    Case(lf.reciprocal(), POSITIVE, by(torch.reciprocal)),
    Case(lf.sin(), WIDE, by(torch.sin)),
    Case(lf.cos(), WIDE, by(torch.cos)),
    Case(lf.absolute(), normal(5, 3), by(torch.abs)),
    Case(lf.clamp(-0.5, 0.3), normal(5, 3), by(lambda x: x.clamp(-0.5, 0.3))),
    Case(lf.clamp(max=0.3), normal(5, 3), by(lambda x: x.clamp(max=0.3))),
    Case(lf.shift(-0.3), normal(5, 3), by(lambda x: x - 0.3)),
    Case(lf.softsign(), WIDE, by_module(nn.Softsign())),
    Case(lf.tanhshrink(), normal(5, 3), by_module(nn.Tanhshrink())),
    Case(lf.hardtanh(), normal(5, 3), by_module(nn.Hardtanh())),
    Case(lf.hardtanh(-0.5, 0.3), normal(5, 3), by_module(nn.Hardtanh(-0.5, 0.3))),
    Case(lf.hardswish(), WIDE, by_module(nn.Hardswish())),
    Case(lf.hardsigmoid(), WIDE, by_module(nn.Hardsigmoid())),
    Case(lf.hardshrink(), normal(5, 3), by_module(nn.Hardshrink())),
    Case(lf.hardshrink(0.2), normal(5, 3), by_module(nn.Hardshrink(0.2))),
    Case(lf.softshrink(), normal(5, 3), by_module(nn.Softshrink())),
    Case(lf.softshrink(0.2), normal(5, 3), by_module(nn.Softshrink(0.2))),
    Case(lf.threshold(0.1, 20.0), normal(5, 3), by_module(nn.Threshold(0.1, 20.0))),
    Case(lf.glu(), normal(5, 6), by_module(nn.GLU())),
    Case(lf.glu(dim=1), normal(5, 4, 3), by_module(nn.GLU(1))),
    Case(lf.rrelu(), normal(5, 3)),
    Case(lf.rrelu(0.5, 0.5), normal(5, 3), by_module(nn.RReLU(0.5, 0.5)), predict_is_forward=True),
]
