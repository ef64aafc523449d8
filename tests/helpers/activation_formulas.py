"""The activations element by element, and dy/dx at their kinks."""

import math

import lincoln_fn as lf
from helpers.cases.case import normal
from lincoln_fn.fastpath import fast

# The formula, and the faster functions that take its place.
VERSIONS = {"formula": lambda layer: layer, "fast": fast}

X = 3 * normal(5, 4, 6).double()
G = normal(5, 4, 6, seed=1).double()
A, L = 1.6732632423543772848170429916717, 1.0507009873554804934193352946

ELEMENTWISE = [
    lf.relu(), lf.scale(-0.3), lf.leaky_relu(0.2), lf.relu6(), lf.elu(0.3), lf.selu(), lf.celu(0.3),
    lf.gelu(), lf.gelu("tanh"), lf.silu(), lf.quick_gelu(), lf.mish(), lf.softplus(),
    lf.softplus(0.5, 1.0), lf.softsign(), lf.tanhshrink(), lf.hardtanh(-0.5, 2.0), lf.hardswish(),
    lf.hardsigmoid(), lf.hardshrink(), lf.softshrink(), lf.threshold(0.5, 7.0),
]  # fmt: skip


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
