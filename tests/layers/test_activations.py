"""What the table of cases cannot say of activations: kinks, extremes, slopes, wrong uses."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import first_run, normal, run, same_bits, same_number, same_statistics
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.fastpath import fast

# The formula, and the faster functions that take its place.
VERSIONS = {"formula": lambda layer: layer, "fast": fast}
in_both_versions = pytest.mark.parametrize("version", VERSIONS)
ELEMENTWISE = [
    lf.relu(), lf.scale(-0.3), lf.leaky_relu(0.2), lf.relu6(), lf.elu(0.3), lf.selu(),
    lf.celu(0.3), lf.gelu(), lf.gelu("tanh"), lf.silu(), lf.quick_gelu(), lf.mish(), lf.softplus(),
    lf.softplus(0.5, 1.0), lf.softsign(), lf.tanhshrink(), lf.hardtanh(-0.5, 2.0), lf.hardswish(),
    lf.hardsigmoid(), lf.hardshrink(), lf.softshrink(), lf.threshold(0.5, 7.0),
]  # fmt: skip
A, L = 1.6732632423543772848170429916717, 1.0507009873554804934193352946  # of selu

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
    y, dx, dparams = run(layer, (), x, g)
    assert dparams == ()
    return y, dx


def at_and_beside(x):
    ends = (torch.full_like(x, end) for end in (-torch.inf, torch.inf))
    below, above = (torch.nextafter(x, end) for end in ends)
    return below, x, above


@pytest.mark.whole
@in_both_versions
@pytest.mark.parametrize("layer", KINKS, ids=str)
def test_the_slope_at_a_kink_and_beside_it(layer, version):
    for kink, slopes in KINKS[layer].items():
        for dtype in (torch.float32, torch.float64):
            at = torch.tensor([kink] if kink else [0.0, -0.0], dtype=dtype)
            for x, slope in zip(at_and_beside(at), slopes, strict=True):
                dx = both(VERSIONS[version](layer), x, torch.ones_like(x))[1]
                assert same_number(dx, torch.full_like(x, slope)), (kink, x)


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


# Numbers from denormal ones to 1e4, in float32, float64 and bfloat16.

MAGNITUDES = torch.cat(
    [
        torch.tensor([0.0, 1e-45, 1e-40]),
        torch.logspace(-38, 4, 421),
        torch.linspace(0, 20, 401),
        torch.linspace(20, 110, 181),
    ]
)
GRID = torch.cat([MAGNITUDES, -MAGNITUDES])
# Where dy/dx passes through 0 as a sum of terms near 1, it is as good as their rounding.
CROSSING = {
    *("gelu()", "gelu(approximate='tanh')", "quick_gelu()", "silu()", "mish()", "hardswish()")
}
# y below this may be flushed to 0, where an exponential overflows or loses its digits.
TINY = 1e-20


def assert_as_good(given, truth, rounding=0.0):
    assert given.dtype is torch.float32
    assert torch.isfinite(given).all()
    excess = (given.double() - truth).abs() - (1e-5 * truth.abs() + TINY + rounding)
    assert excess.max() <= 0, f"off at {GRID[excess > 0] if GRID.shape == truth.shape else truth}"


@in_both_versions
@pytest.mark.parametrize("layer", ELEMENTWISE, ids=str)
def test_float32_is_as_good_as_float64_from_denormals_to_1e4(layer, version):
    y, dx = both(VERSIONS[version](layer), GRID, torch.ones_like(GRID))
    true_y, true_dx = both(layer, GRID.double(), torch.ones_like(GRID).double())
    by_kernel = layer.name.startswith("gelu(") and version == "fast"
    # ATen's gelu is as good as the rounding of (1 + erf z) / 2, times x; its slope by tanh as that
    # of 1 - tanh^2, times up to 14: for |x| below 6, tanh z may not be 1 yet.
    assert_as_good(y, true_y, by_kernel * 2.0**-21 * GRID.double().abs().clamp(min=1))
    of_kernel = 2.0**-19 if "tanh" in layer.name else 2.0**-21
    assert_as_good(dx, true_dx, of_kernel if by_kernel else 2.0**-22 * (layer.name in CROSSING))


@jvp_warns
@pytest.mark.parametrize("layer", ELEMENTWISE, ids=str)
def test_derivatives_of_backward_are_as_good_as_float64(layer):
    def results(x):
        def dx(x, g):
            return both(layer, x, g)[1]

        ones = torch.ones_like(x)
        forwards = torch.func.jvp(dx, (x, ones), (ones, ones))[1]
        return forwards, *torch.func.vjp(dx, x, ones)[1](ones)

    for given, truth in zip(results(GRID), results(GRID.double()), strict=True):
        assert torch.isfinite(given).all()
        # Sums of terms near 1 that cross 0, times x; for gelu by tanh times x^3, x being below 10.
        unit = 2.0**-16 if "tanh" in layer.name else 2.0**-20
        assert_as_good(given, truth, unit * (1 + GRID.abs().clamp(max=20).double()))


@in_both_versions
def test_the_softmin_of_far_apart_numbers(version):
    x = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, -0.0], [3e-45, 0.0, -1e-40]])
    y, dx = both(VERSIONS[version](lf.softmin()), x, torch.tensor([1.0, -2.0, 0.5]).expand(3, 3))
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]])
    assert same_number(y, expected)
    last = torch.tensor([-7 / 18, 11 / 18, -2 / 9])
    assert same_number(dx, torch.stack([torch.zeros(3), torch.zeros(3), last]))


@in_both_versions
def test_glu_is_as_good_as_float64(version):
    gates = GRID[::7]
    x = torch.cartesian_prod(gates, gates)
    y, dx = both(VERSIONS[version](lf.glu()), x, torch.ones(len(x), 1))
    true_y, true_dx = both(lf.glu(), x.double(), torch.ones(len(x), 1).double())
    assert_as_good(y, true_y)
    assert_as_good(dx[:, 0], true_dx[:, 0])
    # 1 - s(b) is as good as the rounding of s(b), times a.
    assert_as_good(dx[:, 1], true_dx[:, 1], 2.0**-23 * x[:, 0].abs().double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanhshrink_near_0_is_its_series(dtype):
    x = torch.tensor([1e-12, 1e-6, 1e-3, 0.01, -0.02, 0.03], dtype=dtype)
    x64 = x.double()
    series = x64**3 / 3 - 2 * x64**5 / 15 + 17 * x64**7 / 315 - 62 * x64**9 / 2835
    y = lf.layers.tanhshrink.forward((), x)[0]
    # The first term that is left out is 1382 x^11 / 155925.
    assert same_number(y, series, terms=series.abs(), error=1e-14, dtype=dtype)


def test_tanhshrink_is_right_where_its_branches_meet():
    x = torch.tensor([-1.0, 1 - 2**-53, 1.0, 1 + 2**-52], dtype=torch.float64)
    y = lf.layers.tanhshrink.forward((), x)[0]
    assert same_number(y, x - torch.tanh(x), length=16)


@in_both_versions
def test_softplus_in_float64_is_exact_past_torchs_threshold(version):
    x = torch.tensor([20.5, 39.0, 39.99, 40.01, 50.0], dtype=torch.float64)
    for layer in map(VERSIONS[version], (lf.softplus(), lf.softplus(threshold=1e9))):
        y, dx = both(layer, x, torch.ones_like(x))
        assert same_number(y, x + torch.log1p(torch.exp(-x)), length=4)
        assert same_number(dx, 1 / (1 + torch.exp(-x)), length=4)
        y, dx = both(layer, torch.tensor([1e4]), torch.ones(1))
        assert (y.item(), dx.item()) == (1e4, 1)


@in_both_versions
def test_gelu_tanh_survives_an_overflowing_square(version):
    x = torch.tensor([-1e30, 1e30])
    y, dx = both(VERSIONS[version](lf.gelu("tanh")), x, torch.ones(2))
    assert (y.tolist(), dx.tolist()) == ([0, x[1].item()], [0, 1])


@in_both_versions
def test_hardtanh_in_bfloat16_stops_at_an_end_that_is_not_a_bfloat16(version):
    x = torch.tensor([-3.0, 0.05, 3.0], dtype=torch.bfloat16)
    layer = VERSIONS[version](lf.hardtanh(-0.1, 0.1))
    assert both(layer, x, torch.ones_like(x))[1].tolist() == [0, 1, 0]


@in_both_versions
@pytest.mark.parametrize("layer", [
    *ELEMENTWISE, lf.sigmoid(), lf.tanh(), lf.log_sigmoid(), lf.softmax(), lf.log_softmax(),
    lf.softmin(), lf.glu(),
], ids=str)  # fmt: skip
def test_extreme_inputs_stay_finite_in_every_dtype_and_nan_stays_nan(layer, version):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.tensor([[-3e4, -20, -1e-7, 0, 12, 3e4], [3e4] * 6, [-3e4] * 6], dtype=dtype)
        y = layer.predict((), x)
        for result in both(VERSIONS[version](layer), x, torch.ones_like(y)):
            assert result.dtype is dtype
            assert torch.isfinite(result).all(), dtype
    assert VERSIONS[version](layer).predict((), torch.full((2,), torch.nan)).isnan().all()


# Slopes that are trained, or drawn.


def test_prelu_takes_its_slope_at_0_and_keeps_its_dtype():
    x = torch.zeros(2, 3, dtype=torch.bfloat16)
    layer = lf.prelu(3, init=0.5)
    params = layer.init(lf.Key(0), x.to("meta"))
    assert params.weight.tolist() == [0.5, 0.5, 0.5]
    dx, dparams = layer.backward(params, x, torch.ones_like(x))
    assert dx.tolist() == [[0.5] * 3] * 2
    assert dparams.weight.dtype is torch.bfloat16
    assert dparams.weight.tolist() == [0, 0, 0]


def test_prelu_takes_a_single_number():
    layer, x = lf.prelu(init=0.5), torch.tensor(-3.0)
    params = layer.init(lf.Key(0), x)
    y, dx, dparams = run(layer, params, x, torch.tensor(2.0))
    assert (y.item(), dx.item(), dparams.weight.tolist()) == (-1.5, 1.0, [-6.0])


def test_rrelu_draws_slopes_between_its_ends():
    x = -torch.ones(10_000)
    layer = lf.rrelu(0.2, 0.6)
    params, y, cache = first_run(layer, x, 3)
    assert y.max() <= -0.2
    assert y.min() > -0.6
    assert same_statistics(y, mean=-0.4, std=0.4 / math.sqrt(12))
    dx, dparams = layer.backward(params, cache, 3 * torch.ones_like(x))
    assert same_number(dx, -3 * y)
    assert dparams is params


def test_rrelu_draws_where_x_is_negative_alone():
    x, layer = normal(20), lf.rrelu()
    params, y, cache = first_run(layer, x, 3)
    again = layer.forward(layer.advance(params, cache), x)[0]
    assert same_bits(again[x > 0], y[x > 0])
    assert (again[x < 0] != y[x < 0]).all()
    assert same_number(layer.predict(params, x), F.rrelu(x))
    zeros = layer.forward(params, torch.zeros(20))[1]
    assert zeros.max() < 1 / 3


test_wrong_uses = refusals("""
rrelu(0.3, 0.2) -> ^rrelu: expected lower at most upper, got (0.3, 0.2)$
hardtanh(1.0, 1.0) -> ^hardtanh: expected min_val below max_val, got (1.0, 1.0)$
clamp() -> ^clamp: expected min or max, got (None, None)$
clamp(1.0, 0.0) -> ^clamp: expected min not above max, got (1.0, 0.0)$
glu().forward((), torch.zeros(2, 3)) -> ^glu: expected x of even size along dim=-1, got (2, 3)$
softmin(dim=2).forward((), torch.zeros(2, 4)) -> ^softmin: expected x to have an axis dim=2, got
    shape (2, 4)$
prelu(3).init(Key(0), torch.zeros(2, 4)) -> ^prelu(3): expected x of shape (batch, 3, ...), got (2,
    4)$
""")
