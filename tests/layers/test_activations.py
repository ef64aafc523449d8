"""What the table of cases cannot say of activations: kinks, shapes, derivatives."""

import math

import pytest
import torch
from helpers.activation_formulas import ELEMENTWISE, KINKS, VERSIONS, both
from helpers.cases.case import normal
from helpers.compare import same_number

import lincoln_fn as lf

in_both_versions = pytest.mark.parametrize("version", VERSIONS)


def at_and_beside(x):
    ends = (torch.full_like(x, end) for end in (-torch.inf, torch.inf))
    below, above = (torch.nextafter(x, end) for end in ends)
    return below, x, above


@in_both_versions
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("layer", "kink"), [(layer, kink) for layer in KINKS for kink in KINKS[layer]], ids=str
)
def test_the_slope_at_a_kink_and_beside_it(layer, kink, dtype, version):
    at = torch.tensor([kink] if kink else [0.0, -0.0], dtype=dtype)
    for x, slope in zip(at_and_beside(at), KINKS[layer][kink], strict=True):
        dx = both(VERSIONS[version](layer), x, torch.ones_like(x))[1]
        assert same_number(dx, torch.full_like(x, slope))


def test_the_slope_at_a_kink_lies_between_those_beside_it():
    for layer, kinks in KINKS.items():
        # Without a gap around 0 there is no kink, but the formula's rule is the same.
        if layer.name in ("hardshrink(lambd=0.0)", "softshrink(lambd=0.0)"):
            continue
        for below, at, above in kinks.values():
            assert min(below, above) <= at <= max(below, above), layer


# torch's forward mode loads its rules by torch.jit.script.
jvp_warns = pytest.mark.filterwarnings("ignore:.torch.jit.script")
# By smooth layer: the second derivative of y at 0.
CURVATURES = {
    lf.sigmoid(): 0.0, lf.tanh(): 0.0, lf.softcap(2.0): 0.0, lf.tanhshrink(): 0.0,
    lf.log_sigmoid(): -1 / 4, lf.softplus(): 1 / 4, lf.softplus(0.5, 1.0): 1 / 8, lf.silu(): 1 / 2,
    lf.quick_gelu(): 1.702 / 2, lf.mish(): 1 - 0.6**2, lf.gelu(): math.sqrt(2 / math.pi),
    lf.gelu("tanh"): math.sqrt(2 / math.pi),
}  # fmt: skip


@jvp_warns
@pytest.mark.parametrize("layer", CURVATURES, ids=str)
def test_the_derivative_of_backward_at_0(layer):
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)

    def dx(x):
        return both(layer, x, one)[1]

    forwards = torch.func.jvp(dx, (zero,), (one,))[1]
    for given in (forwards, torch.func.grad(dx)(zero)):
        assert same_number(given.item(), CURVATURES[layer], terms=1.0, error=1e-12)


@in_both_versions
@pytest.mark.parametrize("layer", [*ELEMENTWISE, lf.softmin(dim=1), lf.glu(dim=1)], ids=str)
def test_one_row_and_none(layer, version):
    layer = VERSIONS[version](layer)
    x = normal(2, 4, 3, 5)
    g = normal(*layer.predict((), x).shape, seed=1)
    y, dx = both(layer, x, g)
    for part in (slice(0, 1), slice(0, 0)):
        assert same_number(both(layer, x[part], g[part]), (y[part], dx[part]))
    for order in (
        lambda leaf: leaf.contiguous(memory_format=torch.channels_last),
        lambda leaf: leaf.mT.contiguous().mT,
    ):
        assert same_number(both(layer, order(x), order(g)), (y, dx))


def test_selu_keeps_mean_0_and_variance_1():
    z = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    y = lf.selu().predict((), z)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    for power, moment in ((1, 0.0), (2, 1.0)):
        assert same_number((y**power * density).sum().item() * 1e-4, moment, terms=1.0, error=1e-06)
