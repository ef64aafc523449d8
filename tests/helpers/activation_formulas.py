"""The activations' formulas, written out a second time: y, dy/dx, and dy/dx at kinks."""

import math

import torch

import lincoln_fn as lf
from helpers.cases.case import normal
from lincoln_fn.fastpath import fast

# The formula, and the faster functions that take its place.
VERSIONS = {"formula": lambda layer: layer, "fast": fast}

X = 3 * normal(5, 4, 6).double()
G = normal(5, 4, 6, seed=1).double()
RELU6 = lambda x: x.clamp(0, 6)  # noqa: E731


def phi(x):
    return torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def big_phi(x):
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def tanh_inside(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def gelu_tanh_slope(x):
    t, c = torch.tanh(tanh_inside(x)), math.sqrt(2 / math.pi)
    return (1 + t) / 2 + x * (1 - t**2) / 2 * c * (1 + 3 * 0.044715 * x**2)


def softplus(x):
    return torch.log(1 + torch.exp(x))


def mish_slope(x):
    t = torch.tanh(softplus(x))
    return t + x * torch.sigmoid(x) * (1 - t**2)


A, L = 1.6732632423543772848170429916717, 1.0507009873554804934193352946

# By layer: y, and dy/dx.
ELEMENTWISE = {
    lf.relu(): (lambda x: x.clamp(min=0), lambda x: (x > 0).double()),
    lf.scale(-0.3): (lambda x: -0.3 * x, lambda x: torch.full_like(x, -0.3)),
    lf.leaky_relu(0.2): (lambda x: x.clamp(min=0) + 0.2 * x.clamp(max=0),
        lambda x: torch.where(x > 0, torch.ones_like(x), 0.2)),
    lf.relu6(): (RELU6, lambda x: ((x > 0) & (x < 6)).double()),
    lf.elu(0.3): (lambda x: torch.where(x > 0, x, 0.3 * (torch.exp(x) - 1)),
        lambda x: torch.where(x > 0, 1.0, 0.3 * torch.exp(x))),
    lf.selu(): (lambda x: torch.where(x > 0, L * x, L * A * (torch.exp(x) - 1)),
        lambda x: torch.where(x > 0, L, L * A * torch.exp(x))),
    lf.celu(0.3): (lambda x: x.clamp(min=0) + (0.3 * (torch.exp(x / 0.3) - 1)).clamp(max=0),
        lambda x: torch.where(x > 0, 1.0, torch.exp(x / 0.3))),
    lf.gelu(): (lambda x: x * big_phi(x), lambda x: big_phi(x) + x * phi(x)),
    lf.gelu("tanh"): (lambda x: x * (1 + torch.tanh(tanh_inside(x))) / 2, gelu_tanh_slope),
    lf.silu(): (lambda x: x / (1 + torch.exp(-x)),
        lambda x: torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x)))),
    lf.quick_gelu(): (lambda x: x / (1 + torch.exp(-1.702 * x)),
        lambda x: torch.sigmoid(1.702 * x) * (1 + 1.702 * x * torch.sigmoid(-1.702 * x))),
    lf.mish(): (lambda x: x * torch.tanh(softplus(x)), mish_slope),
    lf.softplus(): (softplus, torch.sigmoid),
    lf.softplus(0.5, 1.0): (lambda x: torch.where(0.5 * x > 1, x, softplus(0.5 * x) / 0.5),
        lambda x: torch.where(0.5 * x > 1, 1.0, torch.sigmoid(0.5 * x))),
    lf.softsign(): (lambda x: x / (1 + x.abs()), lambda x: 1 / (1 + x.abs()) ** 2),
    lf.tanhshrink(): (lambda x: x - torch.tanh(x), lambda x: torch.tanh(x) ** 2),
    lf.hardtanh(-0.5, 2.0): (lambda x: x.clamp(-0.5, 2), lambda x: ((x > -0.5) & (x < 2)).double()),
    lf.hardswish(): (lambda x: x * RELU6(x + 3) / 6,
        lambda x: torch.where(x <= -3, 0.0, torch.where(x >= 3, 1.0, x / 3 + 0.5))),
    lf.hardsigmoid(): (lambda x: RELU6(x + 3) / 6, lambda x: ((x > -3) & (x < 3)).double() / 6),
    lf.hardshrink(): (lambda x: torch.where(x.abs() > 0.5, x, 0.0),
        lambda x: (x.abs() > 0.5).double()),
    lf.softshrink(): (lambda x: x.sign() * (x.abs() - 0.5).clamp(min=0),
        lambda x: (x.abs() > 0.5).double()),
    lf.threshold(0.5, 7.0): (lambda x: torch.where(x > 0.5, x, 7.0), lambda x: (x > 0.5).double()),
}  # fmt: skip


# By layer: where y has a kink, a jump or a change of formula, and dy/dx just below it, there and
# just above it. At a kink the slope is one of those beside it, as the layer's page says; where y
# jumps it is 0.
KINKS = {
    lf.relu(): {0.0: (0, 0, 1)},
    lf.relu6(): {0.0: (0, 0, 1), 6.0: (1, 0, 0)},
    lf.leaky_relu(0.2): {0.0: (0.2, 0.2, 1)},
    lf.leaky_relu(-0.5): {0.0: (-0.5, -0.5, 1)},
    lf.elu(0.3): {0.0: (0.3, 0.3, 1)},
    lf.selu(): {0.0: (L * A, L * A, L)},
    lf.celu(0.3): {0.0: (1, 1, 1)},
    lf.softsign(): {0.0: (1, 1, 1)},
    lf.softplus(0.5, 1.0): {2.0: (1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-1)), 1)},
    lf.hardtanh(): {-1.0: (0, 0, 1), 1.0: (1, 0, 0)},
    lf.hardtanh(-0.5, 2.0): {-0.5: (0, 0, 1), 2.0: (1, 0, 0)},
    lf.hardswish(): {-3.0: (0, 0, -1 / 2), 3.0: (3 / 2, 1, 1)},
    lf.hardsigmoid(): {-3.0: (0, 0, 1 / 6), 3.0: (1 / 6, 0, 0)},
    lf.hardshrink(): {-0.5: (1, 0, 0), 0.5: (0, 0, 1)},
    lf.hardshrink(0.0): {0.0: (1, 0, 1)},
    lf.softshrink(): {-0.5: (1, 0, 0), 0.5: (0, 0, 1)},
    lf.softshrink(0.0): {0.0: (1, 0, 1)},
    lf.threshold(0.5, 7.0): {0.5: (0, 0, 1)},
    lf.threshold(-2.0, 7.0): {-2.0: (0, 0, 1)},
}


def both(layer, x, g):
    """Compute y and dx of a layer without parameters."""
    y, cache = layer.forward((), x)
    dx, dparams = layer.backward((), cache, g)
    assert dparams == ()
    return y, dx
